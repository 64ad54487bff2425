"""Runs the network. Two runtimes behind one interface: LiteRT, and Keras for models that LiteRT cannot convert."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

Infer = Callable[[np.ndarray], dict[str, np.ndarray]]
"""float32 (1, S, S, 3) -> `output` (C,), `embedding` (D,) and, where there are, `feature_map` (h, w, D), `style` (K,),
`other_finding` ()."""


class Runtime(Protocol):
    """A loaded network that several threads may use."""

    def session(self) -> AbstractContextManager[Infer]:
        """Borrow the network for one photo; waits while `threads` photos are being worked on."""


class LiteRTRuntime:
    """A pool of LiteRT interpreters, since threads cannot share one.

    A photo that has this process to itself is worked on by `threads` threads, for the lowest latency; photos at the same
    time by one thread each, for the highest throughput. Interpreters are made when they are first needed.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self._path = path
        self._slots = threading.BoundedSemaphore(threads)
        self._lock = threading.Lock()
        self._working = 0
        self._for_one_alone = self._new_interpreter(threads)
        self._idle: list[Infer] = []

    @contextmanager
    def session(self) -> Iterator[Infer]:
        """As Runtime.session."""
        with self._slots:
            with self._lock:
                alone = self._working == 0
                self._working += 1
                infer = self._for_one_alone if alone else self._idle.pop() if self._idle else None
            try:
                if infer is None:
                    infer = self._new_interpreter(threads=1)
                yield infer
            finally:
                with self._lock:
                    self._working -= 1
                    if infer is not None and not alone:
                        self._idle.append(infer)

    def _new_interpreter(self, threads: int) -> Infer:
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(str(self._path), num_threads=threads).get_signature_runner()
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
        self._slots = threading.BoundedSemaphore(threads)

    @contextmanager
    def session(self) -> Iterator[Infer]:
        """As Runtime.session."""
        with self._slots:
            yield self._infer
