"""Passwords and tokens: kept out of everything that is shown, sent or kept."""

import base64
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Mapping
from types import TracebackType
from urllib.parse import quote, unquote, urlsplit

from eye_disease.common.text import one_line

_LOGIN = re.compile(r"(?<=://)(?:[^\s/:@'\"<>]+:[^\s'\"<>]+@|[^\s/?#'\"<>]*@)")
"""`user:password@` of any URL in a text; a password may hold an unquoted `/` or `@`."""
_HOLDS_A_SECRET = re.compile(r"PASSWORD|PASSWD|TOKEN|SECRET|CREDENTIALS|ACCESS_KEY|API_?KEY", re.IGNORECASE)
"""Names of environment variables."""
_SHORTEST = 6
"""Characters of a value that is looked for: a shorter one would make holes in ordinary words."""
_HIDDEN = "***"


def hide_secrets(text: object, env: Mapping[str, str] | None = None) -> str:
    """`text` without the login of any URL, and without the value of any setting of `env` that holds a secret.

    env: os.environ if not given. A URL without its login still is the same address.
    """
    shown = _LOGIN.sub("", str(text))
    for secret in _secrets(os.environ if env is None else env):
        shown = shown.replace(secret, _HIDDEN)
    return shown


def split_login(url: str) -> tuple[str, str | None]:
    """(URL without its login, value of the header `Authorization` or None), of an http(s) URL."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url, None
    login, _, address = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    basic = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    return parts._replace(netloc=address).geturl(), f"Basic {basic}"


class SecretsHidden(logging.Filter):
    """Makes each message one line without secrets, whoever logs it; a traceback keeps its lines."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; every record passes."""
        record.msg, record.args = one_line(hide_secrets(record.getMessage())), ()
        if record.exc_info:
            record.exc_text = hide_secrets("".join(traceback.format_exception(*record.exc_info)).rstrip())
            record.exc_info = None
        return True


def hide_everywhere() -> None:
    """From now on no log line and no traceback of this process shows a secret."""
    for logger in (logging.getLogger(), logging.getLogger("mlflow")):  # MLflow's messages go to a handler of its own
        for handler in logger.handlers:
            handler.addFilter(SecretsHidden())
    sys.excepthook = _print_hidden
    threading.excepthook = lambda failure: _print_hidden(failure.exc_type, failure.exc_value, failure.exc_traceback)


def _print_hidden(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    print(hide_secrets("".join(traceback.format_exception(kind, error, trace))), file=sys.stderr, end="")


def _secrets(env: Mapping[str, str]) -> list[str]:
    """The longest first, so that none is left in part. Each also as it stands in a URL."""
    values = [value for name, value in env.items() if _HOLDS_A_SECRET.search(name)]
    user, password = (env.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD"))
    values.append(base64.b64encode(f"{user}:{password}".encode()).decode() if password else "")  # as a header holds it
    for url in env.get("ALERT_URLS", "").replace(",", " ").split():
        values += [url, url.partition("://")[2]]
    plain = {value.strip() for value in values}
    forms = {form for value in plain for form in (value, quote(value, safe=""), unquote(value)) if len(form) >= _SHORTEST}
    return sorted(forms, key=len, reverse=True)
