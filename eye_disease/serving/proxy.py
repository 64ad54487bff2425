"""Two served versions behind one address: the nginx configuration for an A/B split or a shadow.

Split: a share of the clients is answered by the challenger, each client always by the same version; what the challenger cannot
answer the champion does. Shadow: the champion answers everybody, and a copy of each request goes to a version whose answers
are only recorded.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from string import Template

from eye_disease.common.errors import UserError

CONFIGURATION = "nginx.conf"
_TEMPLATE = Path(__file__).with_name("proxy.nginx.conf")
_ADDRESS = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})")

_CHALLENGER = """\
        location = /challenger/invocations {
            internal;
            proxy_pass http://challenger/invocations;
            proxy_connect_timeout 1s;
            proxy_read_timeout %{timeout}s;
            # Whatever goes wrong there, the client gets an answer: the champion's.
            proxy_intercept_errors on;
            error_page 500 502 503 504 = @champion;
        }

        location @champion {
            rewrite ^ /invocations break;
            proxy_pass http://champion;
        }"""
_MIRROR = """\
            mirror /shadow;
            # nginx takes a connection's next request only when the copy of the last one is done: one request a connection,
            # so that no client waits for a slow shadow.
            keepalive_timeout 0;"""
_SHADOW = """\
        location = /shadow {
            internal;
            log_subrequest on;
            proxy_pass http://shadow/invocations;
            proxy_connect_timeout 1s;
            proxy_read_timeout %{timeout}s;
        }"""
_SHADOW_CONNECTIONS = 16
"""Copies under way at a time, for each process of nginx; more are dropped, so that a slow shadow does not fill the memory."""


class ProxyError(UserError):
    """A proxy that cannot be set up; the message says what to change."""


class _Nginx(Template):
    delimiter = "%"  # nginx's own variables begin with a dollar sign


@dataclass(frozen=True)
class Proxy:
    """What the configuration is made from; addresses are `host:port`. Raises ProxyError for a value that does not fit."""

    champion: str
    challenger: str = ""
    """Answers `percent` of the clients"""
    shadow: str = ""
    """Gets a copy of every request"""
    percent: float = 10.0
    """0.01 to 99.99"""
    listen: str = "127.0.0.1:8080"
    client_header: str = "X-Client-Id"
    """Header that names the client; without it the client's address does"""
    timeout_seconds: int = 10
    """How long challenger or shadow may take; after that the champion answers, or the copy is given up"""
    max_body_mb: int = 96
    """Largest request, MiB: base64 makes a photo a third larger"""

    def __post_init__(self) -> None:
        if bool(self.challenger) == bool(self.shadow):
            raise ProxyError("Expected either a challenger, which answers a share of the clients, or a shadow.")
        for name in ("champion", "challenger", "shadow", "listen"):
            _check_address(name, getattr(self, name))
        if self.champion in (self.challenger, self.shadow):
            raise ProxyError(f"Both versions are at {self.champion}. Serve them on two ports.")
        if not 0.01 <= self.percent <= 99.99:  # nan neither
            raise ProxyError(f"percent={self.percent:g} is not valid. Expected 0.01 to 99.99.")
        if not re.fullmatch(r"[A-Za-z0-9-]+", self.client_header):
            raise ProxyError(
                f"client_header={self.client_header!r} is not the name of a header. Expected one such as X-Client-Id."
            )
        for name in ("timeout_seconds", "max_body_mb"):
            if getattr(self, name) < 1:
                raise ProxyError(f"{name}={getattr(self, name)} is not valid. Expected 1 or more.")

    def render(self) -> str:
        """The text of CONFIGURATION."""
        upstreams = {"champion": self.champion, "challenger": self.challenger, "shadow": self.shadow}
        limits = {"shadow": f" max_conns={_SHADOW_CONNECTIONS}"}
        lines = [
            f"    upstream {name} {{\n        server {address}{limits.get(name, '')};\n    }}"
            for name, address in upstreams.items()
            if address
        ]
        other = _CHALLENGER if self.challenger else _SHADOW
        return _Nginx(_TEMPLATE.read_text()).substitute(
            upstreams="\n".join(lines),
            client=f"$http_{self.client_header.lower().replace('-', '_')}",
            share=f"\n        {self.percent:.2f}%  challenger;" if self.challenger else "",
            listen=self.listen,
            max_body_mb=self.max_body_mb,
            mirror=f"\n{_MIRROR}" if self.shadow else "",
            locations=_Nginx(other).substitute(timeout=self.timeout_seconds),
        )

    def write(self, folder: Path) -> Path:
        """Write CONFIGURATION to a folder that then holds all of nginx's files, once nginx has found it valid.

        A configuration that is there already stays until then. Raises ProxyError.
        """
        (folder / "temporary").mkdir(parents=True, exist_ok=True)
        incoming = folder / f"{CONFIGURATION}.new"
        incoming.write_text(self.render())
        check(incoming)
        return incoming.replace(folder / CONFIGURATION)


def nginx_command(configuration: Path) -> list[str]:
    """Runs nginx with a configuration, in the foreground, with all its files beside it. Raises ProxyError without nginx."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin")
    if not nginx:
        raise ProxyError("nginx was not found. Install it (Debian, Ubuntu: apt install nginx; macOS: brew install nginx).")
    folder = configuration.parent.resolve()
    return [nginx, "-p", f"{folder}/", "-c", str(folder / configuration.name), "-e", "stderr"]


def check(configuration: Path) -> None:
    """Have nginx check a configuration. Raises ProxyError with what it says."""
    done = subprocess.run([*nginx_command(configuration), "-t", "-q"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProxyError(f"nginx does not take {configuration}: {done.stderr.strip()}")


def _check_address(name: str, address: str) -> None:
    match = _ADDRESS.fullmatch(address)
    if address and (match is None or not 1 <= int(match[1]) <= 65_535):
        raise ProxyError(f"{name}={address!r} is not an address. Expected host:port, as 127.0.0.1:8081.")
    if not address and name in ("champion", "listen"):
        raise ProxyError(f"{name} is missing. Expected host:port, as 127.0.0.1:8081.")
