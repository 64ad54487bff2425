"""How far an epoch has come, said while it runs: a line that is rewritten on a terminal, one a minute elsewhere."""

import sys
import time

import keras

EVERY_TERMINAL, EVERY_LOG = 1.0, 60.0
"""Seconds between two sayings."""


class Progress(keras.callbacks.Callback):
    """Photos done, photos a second and the minutes that the epoch still takes."""

    def __init__(self, epochs: int, batch: int) -> None:
        super().__init__()
        self._epochs, self._batch = epochs, batch
        self._terminal = sys.stdout.isatty()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the clock."""
        self._epoch, self._start = epoch, time.monotonic()
        self._said = self._start

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Says how far it is, if it is time."""
        now = time.monotonic()
        if now - self._said < (EVERY_TERMINAL if self._terminal else EVERY_LOG):
            return
        self._said = now
        steps = self.params["steps"]
        rate = (batch + 1) * self._batch / (now - self._start)
        left = (steps - batch - 1) * self._batch / rate
        line = (
            f"epoch {self._epoch + 1}/{self._epochs}: {(batch + 1) * self._batch} of {steps * self._batch} photos, "
            f"{rate:.1f} a second, {left / 60:.1f} min left, loss {(logs or {}).get('loss', float('nan')):.3f}"
        )
        print(f"\r{line}" if self._terminal else line, end="" if self._terminal else "\n", flush=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Ends the line on a terminal."""
        if self._terminal:
            print(flush=True)
