"""Probes the served model, whichever version it is by now."""

import logging
from pathlib import Path

from eye_disease.common.errors import TrackingUnavailableError
from eye_disease.common.secrets import hide_secrets
from eye_disease.common.text import clean
from eye_disease.monitoring.package_cache import Packages
from eye_disease.monitoring.probe import Canary, NotLetInError, probe
from eye_disease.records.state_file import StateFileError
from eye_disease.records.storage import Storage
from eye_disease.records.store import RecordStore, find_stores
from eye_disease.verdict.service import Health
from model_code.identity import BUNDLED_VERSION
from model_code.schema import MODEL_NAME

_logger = logging.getLogger(__name__)


def probe_served(url: str, storage: Storage, packages: Packages) -> tuple[tuple[str, str], Health] | None:
    """(model, version) served at `url` and how it is, each version being asked for the answer registered with it.

    A server that names no version is taken for the one that wrote last. None if the canary of the version cannot be had.
    Raises OSError if the log cannot be read.
    """
    model, version = _wrote_last(find_stores(storage))
    health = _probe(url, model, version, packages)
    if health is not None and health.model_version not in (None, version):
        version = str(health.model_version)
        health = _probe(url, model, version, packages)
    if health is not None and not health.up:
        _logger.warning("The served model at %s is unhealthy: %s", hide_secrets(url), health.reason)
    return ((model, version), health) if health else None


def _probe(url: str, model: str, version: str, packages: Packages) -> Health | None:
    try:
        package = packages.find(model, version)
    except TrackingUnavailableError as error:
        _logger.warning("No health probe of %s version %s, whose canary cannot be fetched: %s", clean(model), version, error)
        return None
    if package is None:
        _logger.warning("No health probe of %s version %s: no registry holds its canary.", clean(model), clean(version))
        return None
    canary = _canary(package, packages, model, version)
    try:
        return probe(url, canary) if canary else None
    except NotLetInError as error:
        _logger.error("No health probe of %s: %s", hide_secrets(url), error)
        return None


def _canary(package: Path, packages: Packages, model: str, version: str) -> Canary | None:
    try:
        return Canary.of_package(package)
    except (OSError, ValueError) as error:
        _logger.warning("No health probe of %s version %s, whose canary is damaged: %s", clean(model), version, error)
        try:
            packages.set_aside(model, version, str(error))
        except StateFileError as unusable:
            _logger.error("%s", unusable)
        return None


def _wrote_last(stores: list[RecordStore]) -> tuple[str, str]:
    """By the hour of the newest segment, or where all are closed the day of the newest records."""
    last = max(stores, key=_newest, default=None)
    return (last.model, last.version) if last else (MODEL_NAME, BUNDLED_VERSION)


def _newest(store: RecordStore) -> str:
    try:
        segments = [name for name in store.storage.files(store.folder) if name.endswith(".jsonl")]
        days = [f"{part.day:%Y%m%d}" for part in store.all_parts("records")]
    except OSError:  # the run names it when this version's turn comes
        return ""
    return max([*segments, *days], default="")
