"""`python drift_job.py`: see `eye_disease/cli/drift.py`."""

from eye_disease.cli.drift import main

if __name__ == "__main__":
    main()
