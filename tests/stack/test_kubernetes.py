"""The manifests of deploy/kubernetes against the published schemas of Kubernetes, strictly: no field that it does not know."""

from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.support import compose
from tests.support.servers import PROJECT

FOLDER = PROJECT / "deploy" / "kubernetes"
RELEASES = ("1.31", "1.37")
"""Of Kubernetes: an old one that is still met, and the newest whose schemas the validator has."""
KSERVE_FIELDS = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "timeout"}
"""Of an InferenceService's predictor, beside those of a pod; compared once with KServe 0.21's own definition of it."""


def _objects(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def _pods() -> dict[str, dict[str, Any]]:
    """File -> specification of the pods that it makes."""
    (job,) = _objects("drift-job.yaml")
    deployment = _objects("served-model.yaml")[0]
    (kserve,) = _objects("kserve.yaml")
    predictor = {key: value for key, value in kserve["spec"]["predictor"].items() if key not in KSERVE_FIELDS}
    return {
        "drift-job.yaml": job["spec"]["jobTemplate"]["spec"]["template"]["spec"],
        "served-model.yaml": deployment["spec"]["template"]["spec"],
        "kserve.yaml": predictor,
    }


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", ["drift-job.yaml", "served-model.yaml"])
def test_the_objects_are_valid(name: str, release: str) -> None:
    for one in _objects(name):
        assert kubernetes_validate.validate(one, release, strict=True) == release


@pytest.mark.parametrize("release", RELEASES)
def test_what_kserve_makes_a_pod_of_is_valid(release: str) -> None:
    """KServe's own fields have no schema in the validator; everything else of the predictor is a pod's."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "predictor"}, "spec": _pods()["kserve.yaml"]}
    assert kubernetes_validate.validate(pod, release, strict=True) == release
    (service,) = _objects("kserve.yaml")
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert set(service) == {"apiVersion", "kind", "metadata", "spec"}
    assert set(service["spec"]) == {"predictor"}
    assert 1 < service["spec"]["predictor"]["minReplicas"] <= service["spec"]["predictor"]["maxReplicas"]


def test_the_validator_notices_a_wrong_field() -> None:
    wrong = _objects("served-model.yaml")[0]
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(wrong, RELEASES[-1], strict=True)


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.yaml")))
def test_pods_have_no_rights_and_no_secrets_of_their_own(name: str) -> None:
    """The "restricted" pod security standard, and a file system that is only read."""
    pod = _pods()[name]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["image"].partition(":")[2] not in ("", "latest")
    assert {"requests", "limits"} <= set(container["resources"])
    for variable in container["env"]:
        assert "PASSWORD" not in variable["name"] or "secretKeyRef" in variable["valueFrom"]
    mounts = {one["name"] for one in container["volumeMounts"]}
    assert mounts == {one["name"] for one in pod["volumes"]}


def test_the_service_finds_the_pods() -> None:
    deployment, service, budget = _objects("served-model.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == labels
    assert budget["spec"]["selector"]["matchLabels"] == labels
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    ports = {one["name"] for one in container["ports"]}
    assert {one["targetPort"] for one in service["spec"]["ports"]} <= ports
    probes = [container[kind]["httpGet"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert all(one["path"] == "/ping" and one["port"] in ports for one in probes)


def test_every_way_to_serve_runs_the_same_command() -> None:
    served = compose.load({one.name: "x" for one in compose.variables()})["services"]["model-1"]["command"]
    assert _pods()["served-model.yaml"]["containers"][0]["command"] == served
    assert _pods()["kserve.yaml"]["containers"][0]["command"] == served
