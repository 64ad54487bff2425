"""Asks a model about many photos: a package in this process, or a served model over HTTP."""

import base64
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local
from typing import Any

import pandas as pd
import requests

from benchmarks.model_answers import load

Ask = Callable[[bytes], dict[str, Any]]
"""Image file -> answer row"""
_TIMEOUT_SECONDS = 120


def of_package(package: Path) -> Ask:
    """Of a model package, loaded as a server would."""
    classifier = load(package)
    return lambda photo: classifier.classify(photo).answer


def of_url(url: str) -> Ask:
    """Of a served model; a thread keeps its connection. Raises requests.RequestException where it does not answer."""
    kept = local()

    def ask(photo: bytes) -> dict[str, Any]:
        if not hasattr(kept, "session"):
            kept.session = requests.Session()
        body = {"dataframe_split": {"columns": ["image"], "data": [[base64.b64encode(photo).decode()]]}}
        response = kept.session.post(f"{url.rstrip('/')}/invocations", json=body, timeout=_TIMEOUT_SECONDS)
        response.raise_for_status()
        (answer,) = response.json()["predictions"]
        return answer

    return ask


def ask_all(ask: Ask, photos: Iterable[Callable[[], bytes]]) -> pd.DataFrame:
    """The answer rows, in order. A photo is read or made when its turn comes, so that few are in memory."""
    with ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as executor:
        return pd.DataFrame(executor.map(lambda read: ask(read()), photos))
