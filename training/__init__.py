"""The logic behind `train.py`: from photos and a Keras model to a model package."""
