"""The pool of LiteRT interpreters: one photo alone, several at a time, never more than allowed, never a lost place."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from model_code.package import LITERT_FILE
from model_code.runtime import LiteRTRuntime
from tests.support.photos import PACKAGE

NETWORK = PACKAGE / LITERT_FILE


def test_a_lone_photo_always_gets_the_same_interpreter_and_a_second_another() -> None:
    runtime = LiteRTRuntime(NETWORK, threads=2)
    with runtime.session() as alone, runtime.session() as beside:
        assert beside is not alone
    with runtime.session() as again, runtime.session() as beside_again:
        assert again is alone
        assert beside_again is beside


def test_no_more_photos_at_a_time_than_threads() -> None:
    runtime = LiteRTRuntime(NETWORK, threads=2)
    waiting = threading.Event()

    def third() -> None:
        with runtime.session():
            waiting.set()

    thread = threading.Thread(target=third)
    with runtime.session():
        with runtime.session():
            thread.start()
            assert not waiting.wait(timeout=0.3)
        assert waiting.wait(timeout=10)
    thread.join()


def test_both_kinds_of_interpreters_give_the_same_outputs_under_load() -> None:
    runtime = LiteRTRuntime(NETWORK, threads=3)
    rng = np.random.default_rng(1)
    images = [rng.uniform(0, 255, (1, 224, 224, 3)).astype(np.float32) for _ in range(12)]

    def infer(image: np.ndarray) -> np.ndarray:
        with runtime.session() as network:
            return network(image)["output"]

    alone = [infer(image) for image in images]
    with ThreadPoolExecutor(6) as threads:
        together = list(threads.map(infer, images * 3))
    assert np.stack(together) == pytest.approx(np.stack(alone * 3), abs=1e-4)


def test_a_photo_that_fails_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = LiteRTRuntime(NETWORK, threads=2)
    with runtime.session():
        monkeypatch.setattr(runtime, "_path", Path("gone.tflite"))
        for _ in range(5):
            with pytest.raises(ValueError, match=r"gone\.tflite"), runtime.session():
                pass
        monkeypatch.undo()
        with runtime.session() as beside:
            assert beside is not None
