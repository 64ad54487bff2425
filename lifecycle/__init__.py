"""The logic behind `register.py` and `serve.py`: what goes into the registry, moves through it and is served from it."""
