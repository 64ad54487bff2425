"""A Keras model that holds models -> the same network with their layers in one graph, where each can be found."""

from typing import Any

import keras


def flattened(model: keras.Model) -> keras.Model:
    """The same answers; the model itself if no model is called in it, or one of several inputs or outputs is."""
    inner = _models_in(model)
    if not inner or any(len(model.inputs) != 1 or len(model.outputs) != 1 for model in inner):
        return model
    copies: dict[int, tuple[keras.Operation, keras.Operation]] = {}
    """Identity of an operation -> it and its copy, which every call of it shares."""
    outputs: dict[int, Any] = {}
    """Identity of a copy, or of a model -> what its last call gave."""

    def copied(operation: keras.Operation) -> keras.Operation:
        if _is_graph(operation):
            return operation  # `called` goes into it
        if id(operation) not in copies:
            names = {tensor.name for tensor in model.inputs} | {copy.name for _, copy in copies.values()}
            copies[id(operation)] = operation, _copy(operation, names)
        return copies[id(operation)][1]

    def called(operation: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        if _is_graph(operation):
            graph = keras.Model(operation.inputs[0], operation.outputs[0])
            # What it returns has a graph of its own; the tensors of ours are what the calls within have given.
            keras.models.clone_model(graph, args[0], clone_function=copied, call_function=called)
            outputs[id(operation)] = outputs[id(copied(graph.outputs[0]._keras_history.operation))]
        else:
            outputs[id(operation)] = operation(*args, **kwargs)
        return outputs[id(operation)]

    flat = keras.models.clone_model(model, clone_function=copied, call_function=called)
    for operation, copy in copies.values():
        if isinstance(copy, keras.layers.Layer):
            copy.set_weights(operation.get_weights())
    return flat


def _is_graph(operation: keras.Operation) -> bool:
    """Whether it is a functional or sequential model; one of a class of its own is a layer like any other here."""
    return isinstance(operation, keras.Model) and bool(getattr(operation, "inputs", None))


def _models_in(model: keras.Model) -> list[keras.Model]:
    """At any depth."""
    models = [operation for operation in model.operations if _is_graph(operation)]
    return models + [deeper for model in models for deeper in _models_in(keras.Model(model.inputs, model.outputs))]


def _copy(operation: keras.Operation, names: set[str]) -> keras.Operation:
    """A new one, without weights yet, under its own name or that with underscores."""
    config, name = operation.get_config(), operation.name
    while name in names:
        name += "_"
    return type(operation).from_config(config | {"name": name})
