"""Environment variables that every process of this project needs, whatever it was given."""

import os
import re
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

_LOOPBACK = ("localhost", "127.0.0.1", "127.0.0.0/8", "::1", "[::1]")
"""As the HTTP clients that are used here read `no_proxy`: by name, by address, by network."""

_TRACKING_LOGIN = re.compile(
    r"(?P<scheme>https?://)(?P<user>[^\s/:@]+):(?P<password>[^\s/]+)@(?P<address>[^\s@/]+(?:/\S*)?)", re.IGNORECASE
)


def prepare(env: MutableMapping[str, str]) -> None:
    """Change an environment for this process and its children.

    MLflow reports nothing to its makers, loopback is never asked through a proxy, and a login in MLFLOW_TRACKING_URI goes where
    MLflow keeps logins: an address is shown, sent and kept in many places.
    """
    env.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    env.update(without_proxy(env))
    if login := _TRACKING_LOGIN.fullmatch(env.get("MLFLOW_TRACKING_URI", "").strip()):
        env["MLFLOW_TRACKING_USERNAME"], env["MLFLOW_TRACKING_PASSWORD"] = unquote(login["user"]), unquote(login["password"])
        env["MLFLOW_TRACKING_URI"] = login["scheme"] + login["address"]


def without_proxy(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that keep loopback away from the proxy of `env`; what they held before stays."""
    hosts = [host.strip() for host in (env.get("no_proxy") or env.get("NO_PROXY") or "").split(",") if host.strip()]
    value = "*" if "*" in hosts else ",".join(dict.fromkeys([*hosts, *_LOOPBACK]))  # `*` counts only if it stands alone
    return {"no_proxy": value, "NO_PROXY": value}


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine's loopback."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@contextmanager
def changed(**values: str) -> Iterator[None]:
    """Inside, environment variables have other values."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
