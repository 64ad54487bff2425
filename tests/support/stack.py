"""Runs the services of deploy/docker-compose.yml as plain processes: same commands, environment, order and health checks.

Where Compose gives each service a network of its own, here each has its own loopback address; host names, volumes and
secrets are replaced by that address and by files of this machine. Third parties' images are their programs: Debian's PostgreSQL
and nginx, SeaweedFS from its Python package.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support import compose
from tests.support.postgres import program
from tests.support.servers import PROJECT, START_LIMIT_S, end, environment

_PROGRAMS = ("postgres", "psql", "pg_dump", "pg_restore", "nginx", "wget", "flock", "openssl", "weed")
_OTHER_USERS = {"database": "postgres", "proxy": "nobody"}
"""Service -> user it runs as where these tests are run by root: both programs refuse or drop root's rights."""

_LIMIT_S = 3 * START_LIMIT_S
"""For a service to be healthy; more than for one server, since several start at once."""


def missing_programs() -> list[str]:
    """What of this machine's programs the stack needs and cannot find."""
    return [name for name in _PROGRAMS if _found(name) is None]


class NativeStack:
    """Services on loopback addresses `127.<net>.<net>.N`, their volumes below `folder` (which any user can enter)."""

    def __init__(self, folder: Path, net: int, env: Mapping[str, str]) -> None:
        self.folder = folder
        self._net = net
        names = list(compose.load(dict.fromkeys((one.name for one in compose.variables()), "x"))["services"])
        self.addresses = {name: f"127.{net >> 8}.{net & 255}.{number}" for number, name in enumerate(names, start=2)}
        self.config = compose.load({"PUBLIC_HOST": self.addresses["proxy"], **env})
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def up(self, *names: str) -> None:
        """Start services and those that they depend on, and wait until they are healthy or have done their work."""
        for name in names:
            self._start(name)
        for name in names:
            self._wait_for(
                name, "service_healthy" if "healthcheck" in self._service(name) else "service_completed_successfully"
            )

    def down(self, *names: str) -> None:
        """Stop services; without names all, the last started first."""
        for name in names or list(reversed(self.processes)):
            end(self.processes.pop(name))

    def run(self, name: str, *command: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """A command in a service's surroundings, as `docker compose run`; `changes` are of its environment."""
        return subprocess.run(
            self._native(name, list(command)),
            env=self._environment(name) | changes,
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def output(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def volume(self, name: str) -> Path:
        return self.folder / "volumes" / name

    def _service(self, name: str) -> dict[str, Any]:
        return self.config["services"][name]

    def _environment(self, name: str) -> dict[str, str]:
        given = {key: self._here(name, value) for key, value in self._service(name).get("environment", {}).items()}
        hosts = {key: self.addresses[value] for key, value in given.items() if key.endswith("HOST")}
        return environment() | {"TMPDIR": str(self._tmp(name))} | given | hosts

    def _tmp(self, name: str) -> Path:
        folder = self.folder / "tmp" / name
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(0o777)
        return folder

    def _start(self, name: str) -> None:
        """Start a service once what it depends on is as it asks for."""
        if name in self.processes:
            return
        needed = self._service(name).get("depends_on", {})
        for other in needed:
            self._start(other)
        for other, wish in needed.items():
            self._wait_for(other, wish["condition"])
        self._launch(name)

    def _launch(self, name: str) -> None:
        self.volume("database").parent.mkdir(exist_ok=True)
        user = _OTHER_USERS.get(name) if os.getuid() == 0 else None
        if name == "database":
            command = self._database(user)
        else:
            command = self._native(name, self._service(name).get("entrypoint", []) + self._service(name)["command"])
            command += self._own_ports() if name == "objects" else []
        with (output := self.folder / f"{name}.log").open("ab") as sink:
            if user:
                shutil.chown(output, user)  # nginx opens /dev/stdout by name
            self.processes[name] = subprocess.Popen(
                command,
                env=self._environment(name),
                cwd=PROJECT,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
                extra_groups=[] if user else None,
            )

    def _native(self, name: str, command: list[str]) -> list[str]:
        first, *arguments = [self._here(name, one) for one in command]
        if first == "mlflow":
            return [sys.executable, "-m", "mlflow", *arguments]
        return [{"python": sys.executable}.get(first) or _found(first) or first, *arguments]

    def _here(self, name: str, text: str) -> str:
        """A text of the compose file as it must read on this machine."""
        for mount in self._service(name).get("volumes", []):
            source, target = mount.split(":")[:2]
            if source.startswith("../"):
                path = (compose.COMPOSE_FILE.parent / source).resolve()
            elif source.startswith("./"):
                path = self._translated(name, compose.COMPOSE_FILE.parent / source)
            else:
                path = Path(source) if source.startswith("/") else self.volume(source)
                path.mkdir(parents=True, exist_ok=True)
            text = re.sub(rf"{re.escape(target)}\b", str(path), text)
        return self._addressed(name, text)

    def _addressed(self, name: str, text: str) -> str:
        hosts = "|".join(map(re.escape, self.addresses))
        text = re.sub(rf"(?<![\w.-])({hosts})(?=:\d)", lambda match: self.addresses[match[0]], text)
        for secret, where in self.config["secrets"].items():
            text = text.replace(f"/run/secrets/{secret}", where["file"])
        text = text.replace("/app/", f"{PROJECT}/")
        return re.sub(r"\b(0\.0\.0\.0|127\.0\.0\.1)\b", self.addresses[name], text)

    def _own_ports(self) -> list[str]:
        """Of SeaweedFS: its parts meet at sockets in /tmp named by port, so that two stacks would mix their files."""
        first = 20_000 + self._net % 2_000 * 5
        names = ("master.port", "volume.port", "filer.port", "s3.port.grpc")
        return [f"-{name}={first + number}" for number, name in enumerate(names)]

    def _translated(self, name: str, source: Path) -> Path:
        path = self.folder / source.name
        if not path.exists():  # not again under a program that reads it
            path.write_text(self._addressed(name, source.read_text().replace("/tmp/", f"{self._tmp(name)}/")))
        return path

    def _database(self, user: str | None) -> list[str]:
        """Command of PostgreSQL after what its image does at the first start: make the cluster, the user and the database."""
        wanted = self._service("database")["environment"]
        assert wanted["POSTGRES_USER"] == wanted["POSTGRES_DB"]  # what `createdb` below makes
        folder, tmp = self.volume("database"), self._tmp("database")
        if not folder.exists():
            folder.mkdir(mode=0o700)
            (password := tmp / "password").write_text(wanted["POSTGRES_PASSWORD"])
            if user:
                shutil.chown(folder, user)
                shutil.chown(password, user)
            make = [program("initdb"), "-D", str(folder), "--username", wanted["POSTGRES_USER"], "--pwfile", str(password)]
            self._as(user, [*make, "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-sync"])
            password.unlink()
            sql = f"create database {wanted['POSTGRES_DB']};\n"
            self._as(user, [program("postgres"), "--single", "-D", str(folder), "postgres"], sql)
        settings = [f"listen_addresses={self.addresses['database']}", f"unix_socket_directories={tmp}", "fsync=off"]
        return [program("postgres"), "-D", str(folder), *(part for one in settings for part in ("-c", one))]

    def _as(self, user: str | None, command: list[str], text: str = "") -> None:
        done = subprocess.run(
            command,
            input=text,
            cwd="/",
            user=user,
            extra_groups=[] if user else None,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def _wait_for(self, name: str, condition: str) -> None:
        process, deadline = self.processes[name], time.monotonic() + _LIMIT_S
        if condition == "service_completed_successfully":
            assert process.wait(_LIMIT_S) == 0, self.output(name)
            return
        assert condition == "service_healthy"
        kind, *check = self._service(name)["healthcheck"]["test"]
        assert kind == "CMD"
        command = self._native(name, check)
        while subprocess.run(command, env=self._environment(name), capture_output=True, check=False).returncode:
            assert process.poll() is None, f"{name} has ended:\n{self.output(name)}"
            assert time.monotonic() < deadline, f"{name} is not healthy:\n{self.output(name)}"
            time.sleep(0.5)


def _found(name: str) -> str | None:
    """Path of a program: PostgreSQL's, of this Python environment (weed), or where Debian keeps servers."""
    return program(name) or shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}/usr/sbin")
