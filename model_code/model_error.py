"""The error of a model that cannot be used. A module of its own, since it imports nothing."""


class ModelError(ValueError):
    """A Keras file, a package or its recipe is not what is expected; the message says what is."""
