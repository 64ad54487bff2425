"""A PostgreSQL server of its own for the tests that need one."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.servers import end, free_port

_DEBIAN = Path("/usr/lib/postgresql")


def program(name: str) -> str | None:
    """Path of one of PostgreSQL's programs; Debian keeps them off the PATH."""
    newest = sorted(_DEBIAN.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(newest[-1]) if newest else shutil.which(name)


@contextmanager
def serve_postgres(folder: Path) -> Iterator[str]:
    """URI of the database `postgres` of a new server; skips the test where PostgreSQL is absent. It runs as `postgres` if
    these tests are root's, whom it refuses; `folder` must be one that this user can enter.
    """
    initdb, postgres = program("initdb"), program("postgres")
    if initdb is None or postgres is None:
        pytest.skip("needs PostgreSQL (Debian: apt-get install postgresql)")
    user = "postgres" if os.getuid() == 0 else None
    data, port = folder / "data", free_port()
    data.mkdir(mode=0o700)
    if user:
        shutil.chown(data, user)
    as_user = {"user": user, "extra_groups": [] if user else None, "cwd": "/", "stdout": subprocess.DEVNULL}
    subprocess.run([initdb, "-D", data, "--username", "mlflow", "--auth", "trust", "--no-sync"], check=True, **as_user)
    settings = (f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off")
    command = [postgres, "-D", str(data), *(part for one in settings for part in ("-c", one))]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True, **as_user)
    try:
        _wait(server, ["--host", "127.0.0.1", "--port", str(port)])
        yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/postgres"
    finally:
        end(server)


def _wait(server: subprocess.Popen[bytes], where: list[str]) -> None:
    deadline = time.monotonic() + 60
    ready = program("pg_isready")
    assert ready is not None
    while subprocess.run([ready, *where], capture_output=True, check=False).returncode != 0:
        assert server.poll() is None, "PostgreSQL has ended"
        assert time.monotonic() < deadline, "PostgreSQL does not answer"
        time.sleep(0.1)
