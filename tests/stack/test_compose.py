"""deploy/docker-compose.yml: valid, pinned, without secrets, and with no more rights than its services need."""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from check_jsonschema.builtin_schemas import get_builtin_schema

from tests.support import compose
from tests.support.servers import PROJECT

ENV = {one.name: "x" for one in compose.variables()}
STACK = compose.load(ENV)
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
OPTIONAL = {"ALERT_URLS", "BACKUP_KEEP"}


def test_it_is_valid_by_the_compose_specification() -> None:
    schema = get_builtin_schema("vendor.compose-spec")
    jsonschema.validate(STACK, schema)
    wrong = json.loads(json.dumps(STACK))
    wrong["services"]["proxy"]["healthchek"] = {}
    with pytest.raises(jsonschema.ValidationError, match="healthchek"):
        jsonschema.validate(wrong, schema)


def test_every_secret_comes_from_the_environment_and_none_has_a_default() -> None:
    assert {one.name for one in compose.variables() if not one.needed} == OPTIONAL
    assert all(one.rest for one in compose.variables() if one.needed), "each says what is missing"
    for name in set(ENV) - OPTIONAL:
        with pytest.raises(compose.MissingVariableError, match=name):
            compose.load(ENV | {name: ""})
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|ACCESS_KEY", key):
                assert value == "x", f"{key} is not from the environment"


def test_the_example_names_every_variable_and_fills_in_none() -> None:
    lines = (PROJECT / "deploy" / "env.example").read_text().splitlines()
    named = [line for line in lines if line and not line.startswith("#")]
    assert sorted(named) == sorted(f"{name}=" for name in ENV)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_services_have_no_rights_and_are_looked_after(name: str) -> None:
    service = SERVICES[name]
    user = int(service["user"].partition(":")[0])
    assert user > 0, "not root"
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert re.search(r":\d+\.\d+", service["image"]), "pinned"
    if name == "accounts":
        assert service["restart"] == "on-failure:3"
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"]


def test_only_the_proxy_can_be_reached_and_storage_only_by_those_who_need_it() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]
    assert {name for name, service in SERVICES.items() if "storage" in service["networks"]} == {
        "database",
        "objects",
        "mlflow",
        "backup",
    }
    assert {name for name, service in SERVICES.items() if "outer" in service["networks"]} == {"proxy", "drift"}
    assert all(STACK["networks"][name]["internal"] for name in ("storage", "inner"))


def test_volumes_are_named_and_used() -> None:
    used = {
        mount.split(":")[0]
        for service in SERVICES.values()
        for mount in service.get("volumes", [])
        if not mount.startswith((".", "x"))
    }
    assert used == set(STACK["volumes"])
    assert set(SERVICES["proxy"]["secrets"]) == set(STACK["secrets"])


def test_the_image_holds_what_the_services_run() -> None:
    """Everything outside the list of Dockerfile.dockerignore stays out of the image, so the list must hold it."""
    ignore = (PROJECT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    taken = {line[1:] for line in ignore if line.startswith("!")}
    assert all((PROJECT / name).exists() for name in taken)
    for service in SERVICES.values():
        if service["image"].startswith("eye-disease-classifier"):
            script = next((part for part in service["command"] if part.endswith((".py", ".sh"))), "deploy/accounts.py")
            assert script in taken or script.split("/")[0] in taken, script
    assert "deploy/.env" in ignore[ignore.index("!samples") :], "secrets are not copied"
    dockerfile = (PROJECT / "deploy" / "Dockerfile").read_text()
    assert re.search(r"^FROM python:3\.11\.\d+-slim-bookworm$", dockerfile, flags=re.MULTILINE)
    assert re.search(r"^USER 1000:1000$", dockerfile, flags=re.MULTILINE)


def test_the_image_s_modules_import_without_the_rest_of_the_project() -> None:
    """What is copied does not import what is not (training, TensorFlow, tests)."""
    with tempfile.TemporaryDirectory() as folder:
        ignore = (PROJECT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
        for name in (line[1:] for line in ignore if line.startswith("!")):
            Path(folder, name).symlink_to(PROJECT / name)
        from tests.support.servers import environment, python

        program = "import register, serve, drift_job, deploy.accounts, deploy.snapshot, deploy.check_versions, sys"
        program += "; assert 'tensorflow' not in sys.modules"
        done = python("-c", program, env=environment(), cwd=Path(folder))
        assert done.returncode == 0, done.stderr
