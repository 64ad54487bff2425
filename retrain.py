"""`python retrain.py`: see `eye_disease/cli/retrain.py`."""

from eye_disease.cli.retrain import main

if __name__ == "__main__":
    main()
