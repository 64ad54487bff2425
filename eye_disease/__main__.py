"""`python -m eye_disease COMMAND ...`: the same as `eye-disease`."""

from eye_disease.cli.main import main

if __name__ == "__main__":
    main()
