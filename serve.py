"""`python serve.py`: see `eye_disease/cli/serve.py`."""

from eye_disease.cli.serve import main

if __name__ == "__main__":
    main()
