"""Alerts through Apprise: when a drift is raised or cleared, or something was done about it, to every URL once."""

import hashlib
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from eye_disease.common.secrets import hide_secrets
from eye_disease.common.text import clean, one_line
from eye_disease.records.state_file import StateFileError, encode, read_state
from eye_disease.records.storage import Storage
from model_code.errors import SettingError

_logger = logging.getLogger(__name__)
_GIVE_UP_AFTER = timedelta(days=7)
_LONGEST_BODY, _LONGEST_SCHEME = 2000, 12
Event = Literal["raised", "cleared", "rolled_back", "not_rolled_back", "command_done", "command_failed"]
_HEADLINE: dict[Event, str] = {
    "raised": "Drift",
    "cleared": "Drift cleared",
    "rolled_back": "Rolled back",
    "not_rolled_back": "NOT rolled back",
    "command_done": "Command finished",
    "command_failed": "Command has failed",
}
_GOOD: tuple[Event, ...] = ("cleared", "rolled_back", "command_done")


@dataclass(frozen=True)
class Alert:
    """What people are told. It holds nothing of any photo or patient."""

    event: Event
    model: str
    version: str
    window: str
    """The window judged, as text."""
    problem: str
    """What is wrong, a sentence."""
    action: str
    """What to do, a sentence."""
    report_url: str | None

    @property
    def id(self) -> str:
        """The same for the same event of the same window."""
        return hashlib.sha256("\n".join((self.event, self.model, self.version, self.window)).encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """One line."""
        return f"{_HEADLINE[self.event]}: {clean(self.model)} version {clean(self.version)}"

    @property
    def body(self) -> str:
        """Two sentences and where to read on."""
        facts = [f"Model: {clean(self.model)}, version {clean(self.version)}", f"Window: {one_line(self.window)}"]
        facts += [f"Report: {hide_secrets(self.report_url)}"] if self.report_url else []
        return "\n".join([one_line(f"{self.problem} {self.action}", _LONGEST_BODY), "", *facts])


@dataclass(frozen=True)
class _QueuedAlert:
    """An alert in the outbox."""

    alert: Alert
    to: tuple[str, ...]
    """Digests of the URLs that have not taken it"""
    since: datetime

    def to_bytes(self) -> bytes:
        """Its file."""
        return encode({"alert": asdict(self.alert), "to": self.to, "since": self.since.isoformat()})


class AlertOutbox:
    """Alerts on disk until they are delivered; `sent/` keeps the delivered ones, so that none goes out again.

    folder: local. urls: Apprise URLs; only their digests are written to disk, since they hold passwords.
    Raises SettingError for a URL that Apprise does not know.
    """

    def __init__(self, folder: Path, urls: tuple[str, ...]) -> None:
        self._files = Storage(str(folder))
        self._services = {
            hashlib.sha256(url.encode()).hexdigest()[:16]: _service(i, url) for i, url in enumerate(urls, start=1)
        }

    def put(self, alert: Alert, now: datetime) -> None:
        """Keep an alert for delivery; nothing happens for one that was put before. Without URLs it is only logged."""
        if not self._services:
            text = one_line(f"{alert.title}. {alert.problem} {alert.action}")
            _logger.warning("%s ALERT_URLS is not set: nobody is alerted.", text)
            return
        ids = {name.rpartition("-")[2] for folder in ("waiting", "sent") for name in self._files.files(folder)}
        if f"{alert.id}.json" not in ids:
            queued = _QueuedAlert(alert, tuple(self._services), now)
            self._files.write(f"waiting/{now:%Y%m%dT%H%M%S%f}-{alert.id}.json", queued.to_bytes())

    def deliver(self, now: datetime) -> int:
        """Send what is waiting, oldest first; returns how many alerts still wait because a service did not take them.

        A service that fails is not asked again in this run, so that it never hears of an end before its beginning.
        """
        failed: set[str] = set()
        waiting = 0
        for name in self._files.files("waiting"):
            queued = self._read(name)
            if queued is None:
                continue
            alert = queued.alert
            for digest in [digest for digest in queued.to if digest not in failed]:
                # A URL that is no longer set has nobody behind it.
                if digest in self._services and not _send(self._services[digest], alert):
                    failed.add(digest)
                    continue
                queued = replace(queued, to=tuple(other for other in queued.to if other != digest))
                self._files.write(f"waiting/{name}", queued.to_bytes())
            if queued.to and now - queued.since < _GIVE_UP_AFTER:
                waiting += 1
                continue
            if queued.to:
                _logger.error(
                    "An alert could not be delivered in %d days and is given up: %s", _GIVE_UP_AFTER.days, alert.title
                )
            self._files.write(f"sent/{name}", queued.to_bytes())
            self._files.remove(f"waiting/{name}")
        return waiting

    def _read(self, name: str) -> "_QueuedAlert | None":
        """None if it cannot be read now, or is damaged and was set aside: the other alerts go out all the same."""
        try:
            return read_state(self._files, f"waiting/{name}", _QueuedAlert, "That alert is not delivered.")
        except StateFileError as error:
            _logger.error("An alert waits: %s", error)
            return None


class _Service:
    """One service of Apprise. Its log is kept to ourselves: it shows URLs, which hold passwords and tokens."""

    def __init__(self, plugin: Any) -> None:
        import apprise

        self.service_name = str(plugin.service_name)
        self.failure = ""
        """Of the last notification, for the log."""
        self._apprise = apprise.Apprise()
        self._apprise.add(plugin)

    def notify(self, title: str, body: str, notify_type: Any) -> bool:
        """Whether it was delivered."""
        import apprise

        with _quiet() as messages:
            # As text: what a service shows as HTML or Markdown is made from it, not found in it.
            delivered = self._apprise.notify(body, title, notify_type, body_format=apprise.NotifyFormat.TEXT)
        status = re.search(r"\berror=(\d{3})\b", "\n".join(messages))
        self.failure = f"HTTP status {status[1]}" if status else "no connection, or it was refused"
        return bool(delivered)


def _send(service: Any, alert: Alert) -> bool:
    import apprise

    kind = apprise.NotifyType.SUCCESS if alert.event in _GOOD else apprise.NotifyType.FAILURE
    delivered = bool(service.notify(title=alert.title, body=alert.body, notify_type=kind))
    if not delivered:
        _logger.warning(
            "An alert was not delivered and waits for the next run: %s (%s: %s)",
            alert.title,
            service.service_name,
            service.failure,
        )
    return delivered


def _service(number: int, url: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Apprise's own, while it loads its plugins
        import apprise  # takes a second: only where alerts are wanted

        with _quiet():
            try:
                plugin = apprise.Apprise.instantiate(url)
            except Exception:  # of a plugin, whose message may hold what must not be shown
                plugin = None
    if plugin is None:
        scheme = url.partition("://")[0]
        shown = f"{scheme}://..." if scheme.isalpha() and len(scheme) <= _LONGEST_SCHEME else "..."  # else it may be a token
        raise SettingError("ALERT_URLS", f"(entry {number}, {shown})", "Apprise URLs, see https://appriseit.com")
    return _Service(plugin)


@contextmanager
def _quiet() -> Iterator[list[str]]:
    """Inside, what Apprise logs goes into the list instead."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger, handler = logging.getLogger("apprise"), Collector()
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
