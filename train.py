"""`python train.py`: see `eye_disease/cli/train.py`."""

from eye_disease.cli.train import main

if __name__ == "__main__":
    main()
