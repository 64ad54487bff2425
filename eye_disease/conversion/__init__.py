"""From a Keras file to a model package; what registration and training share."""
