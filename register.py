"""`python register.py`: see `eye_disease/cli/register.py`."""

from eye_disease.cli.register import main

if __name__ == "__main__":
    main()
