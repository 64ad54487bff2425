"""A real browser, without a window."""

import json
import os
import re
import select
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the PATH to look at the page")


@dataclass
class Seen:
    """What a browser shows of a page."""

    dom: str
    picture: Path

    @property
    def text(self) -> str:
        """The page's words, one space between them."""
        return " ".join(re.sub(r"<[^>]*>", " ", re.sub(r"(?s)<(style|script)\b.*?</\1>", " ", self.dom)).split())


def look(pages: dict[str, str], folder: Path, *options: str) -> dict[str, Seen]:
    """Name -> what is seen at an address, all of them looked at together, after 15 s of the page's own time."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,1000"]
    started = {}
    for name, address in pages.items():
        own = [
            f"--user-data-dir={folder / name}",
            f"--screenshot={folder / name}.png",
            "--virtual-time-budget=15000",
        ]
        asked = [*command, *own, *options, "--dump-dom", address]
        started[name] = subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        return {name: Seen(process.communicate(timeout=150)[0], folder / f"{name}.png") for name, process in started.items()}
    finally:
        for process in started.values():
            process.kill()
            process.wait()


class Browser:
    """One page in a browser that is driven as a person drives it, over Chromium's own pipe (DevTools protocol)."""

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM is not None
        (child_in, self._out), (self._in, child_out) = os.pipe(), os.pipe()
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        command += ["--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}", "--window-size=1400,1000"]
        opened = ["bash", "-c", f'exec "$@" 3<&{child_in} 4>&{child_out}', "chromium", *command]
        self._process = subprocess.Popen(
            opened, pass_fds=(child_in, child_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(child_in)
        os.close(child_out)
        self._count, self._session, self._rest = 0, "", b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def open(self, address: str, downloads: Path) -> None:
        """Show a page; what it saves goes into a folder."""
        target = self._ask("Target.createTarget", url=address)["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        self.wait_for("location.href !== 'about:blank' && document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """Of a JavaScript expression in the page. Raises AssertionError where it fails."""
        found = self._ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Until it is true in the page."""
        deadline = time.monotonic() + 60
        while not self.value(expression):
            assert time.monotonic() < deadline, expression
            time.sleep(0.1)

    def press(self, key: str) -> None:
        """A key, as the keyboard sends it."""
        text = {"text": key} if len(key) == 1 else {}
        self._ask("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self._ask("Input.dispatchKeyEvent", type="keyUp", key=key)

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if self._session and not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._in], [], [], 60)[0], "the browser does not answer"
            part = os.read(self._in, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        one, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(one)
        return message
