"""The Kubernetes manifests: fields that KubeRay knows, resources that fit together, its published schema where at hand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

KUBERAY = Path(__file__).parents[2] / "launch" / "kuberay"
# The fields of KubeRay 1.5 that are set here; a misspelt one would be dropped by Kubernetes without a word.
CLUSTER = {
    "rayVersion",
    "authOptions",
    "enableInTreeAutoscaling",
    "autoscalerOptions",
    "headGroupSpec",
    "workerGroupSpecs",
}
JOB = {
    "entrypoint",
    "submissionMode",
    "backoffLimit",
    "shutdownAfterJobFinishes",
    "ttlSecondsAfterFinished",
    "runtimeEnvYAML",
    "rayClusterSpec",
}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((KUBERAY / name).read_text()))


def clusters() -> list[dict[str, Any]]:
    return [documents("raycluster.yaml")[1]["spec"], documents("rayjob.yaml")[0]["spec"]["rayClusterSpec"]]


def test_a_job_has_the_cluster_that_the_page_describes() -> None:
    alone, in_job = clusters()
    assert alone == in_job


def test_only_known_fields_are_set() -> None:
    job = documents("rayjob.yaml")[0]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert set(job["spec"]) == JOB
    for spec in clusters():
        assert set(spec) == CLUSTER
        assert set(spec["headGroupSpec"]) == {"rayStartParams", "template"}
        for group in spec["workerGroupSpecs"]:
            assert set(group) == {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}


def test_the_head_works_not_and_workers_ask_for_what_they_limit() -> None:
    for spec in clusters():
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        for group in spec["workerGroupSpecs"]:
            (container,) = group["template"]["spec"]["containers"]
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert int(container["resources"]["limits"]["nvidia.com/gpu"]) > 0
            assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_all_pods_share_a_volume_and_have_shared_memory() -> None:
    claims = {
        each["metadata"]["name"] for each in documents("raycluster.yaml") if each["kind"] == "PersistentVolumeClaim"
    }
    for spec in clusters():
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            pod = group["template"]["spec"]
            volumes = {volume["name"]: volume for volume in pod["volumes"]}
            mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
            assert mounts == {"shared": "/shared", "shm": "/dev/shm"}
            assert volumes["shared"]["persistentVolumeClaim"]["claimName"] in claims
            assert volumes["shm"]["emptyDir"]["medium"] == "Memory"


def test_no_secret_stands_in_a_manifest() -> None:
    for spec in clusters():
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            names = {each["name"] for each in group["template"]["spec"]["containers"][0]["env"]}
            assert not [name for name in names if "KEY" in name or "TOKEN" in name]


@pytest.mark.parametrize(("name", "kind"), [("raycluster.yaml", "rayclusters"), ("rayjob.yaml", "rayjobs")])
def test_the_manifests_are_valid_by_the_published_schema(name: str, kind: str) -> None:
    """KUBERAY_CRDS: a folder with KubeRay's ray.io_*.yaml, from helm-chart/kuberay-operator/crds of its repository."""
    folder = Path(os.environ.get("KUBERAY_CRDS", "none"))
    if not (folder / f"ray.io_{kind}.yaml").is_file():
        pytest.skip("KubeRay's published schema is not at hand: set KUBERAY_CRDS to a folder that has it")
    jsonschema = pytest.importorskip("jsonschema")
    definition = yaml.safe_load((folder / f"ray.io_{kind}.yaml").read_text())
    (schema,) = [
        version["schema"]["openAPIV3Schema"] for version in definition["spec"]["versions"] if version["name"] == "v1"
    ]
    jsonschema.validate(documents(name)[-1], closed(schema))


def closed(schema: Any) -> Any:
    """Kubernetes drops a field that the schema does not know; here it is a mistake."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    if (
        "properties" in inner
        and "additionalProperties" not in inner
        and inner["properties"]
        and schema.get("type") == "object"
    ):
        inner["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    return inner
