"""Runs the network. Two runtimes behind one interface: LiteRT, and Keras for models that LiteRT cannot convert."""

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

Infer = Callable[[np.ndarray], dict[str, np.ndarray]]
"""float32 (1, S, S, 3) -> {`output` (C,), `embedding` (D,), and `feature_map` (h, w, D) where the network has one}."""


class Runtime(Protocol):
    """A loaded network that several threads may use."""

    def session(self) -> "contextmanager[Infer]":
        """Borrow the network for one photo; waits while `threads` photos are being worked on."""


class LiteRTRuntime:
    """A pool of one-thread LiteRT interpreters, made as they are needed, `threads` at most.

    One interpreter cannot be shared between threads, and one thread each gives the highest throughput.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self._path = path
        self._idle: queue.LifoQueue[Infer | None] = queue.LifoQueue()
        for _ in range(threads - 1):
            self._idle.put(None)
        self._idle.put(self._new_interpreter())

    @contextmanager
    def session(self) -> Iterator[Infer]:
        """As Runtime.session."""
        infer = self._idle.get()
        try:
            infer = infer or self._new_interpreter()
            yield infer
        finally:
            self._idle.put(infer)

    def _new_interpreter(self) -> Infer:
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(str(self._path), num_threads=1).get_signature_runner()
        return lambda image: {name: array[0] for name, array in runner(image=image).items()}


class KerasRuntime:
    """The same interface over a Keras model; loads TensorFlow (about 13 s and 650 MB)."""

    def __init__(self, path: Path, input_size: int, threads: int) -> None:
        import tensorflow as tf

        from model_code.keras_model import load_keras, with_heads

        network = with_heads(load_keras(path))
        signature = [tf.TensorSpec((1, input_size, input_size, 3), tf.float32)]
        function = tf.function(lambda image: network(image, training=False), input_signature=signature)
        self._infer: Infer = lambda image: {name: array[0].numpy() for name, array in function(image).items()}
        self._idle: queue.LifoQueue[None] = queue.LifoQueue()
        for _ in range(threads):
            self._idle.put(None)

    @contextmanager
    def session(self) -> Iterator[Infer]:
        """As Runtime.session."""
        self._idle.get()
        try:
            yield self._infer
        finally:
            self._idle.put(None)
