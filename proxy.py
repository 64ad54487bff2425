"""`python proxy.py`: see `eye_disease/cli/proxy.py`."""

from eye_disease.cli.proxy import main

if __name__ == "__main__":
    main()
