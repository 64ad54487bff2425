"""From a Keras file to a model package; what `register.py` and `train.py` share."""
