"""The Kubernetes manifests against published schemas: KubeRay's own fields, Kubernetes' pods and volumes; and what they say."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import kubernetes_validate
import pytest
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

KUBERAY = Path(__file__).parents[2] / "launch" / "kuberay"
KUBERNETES = "1.34"


class Fields(BaseModel):
    """Kubernetes drops a field that a schema does not know, without a word; here it is a mistake, as is another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Auth(Fields):
    """`AuthOptions` of KubeRay's API reference, ray.io/v1."""

    mode: Literal["disabled", "token"] = "token"
    secretName: str | None = None


class Autoscaler(Fields):
    """`AutoscalerOptions`."""

    idleTimeoutSeconds: int | None = None
    upscalingMode: Literal["Default", "Aggressive", "Conservative"] | None = None
    version: Literal["v1", "v2"] | None = None


class Head(Fields):
    """`HeadGroupSpec`: parameters of `ray start` are texts, also where they are numbers."""

    rayStartParams: dict[str, str]
    template: dict[str, Any]


class Workers(Fields):
    """`WorkerGroupSpec`."""

    groupName: str
    replicas: int
    minReplicas: int
    maxReplicas: int
    rayStartParams: dict[str, str]
    template: dict[str, Any]


class Cluster(Fields):
    """`RayClusterSpec`."""

    rayVersion: str
    authOptions: Auth
    enableInTreeAutoscaling: bool
    autoscalerOptions: Autoscaler
    headGroupSpec: Head
    workerGroupSpecs: list[Workers]


class Job(Fields):
    """`RayJobSpec`."""

    entrypoint: str
    submissionMode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"] = "K8sJobMode"
    backoffLimit: int = 0
    shutdownAfterJobFinishes: bool = False
    ttlSecondsAfterFinished: int = 0
    runtimeEnvYAML: str = ""
    rayClusterSpec: Cluster


SPECS: dict[str, type[Fields]] = {"RayCluster": Cluster, "RayJob": Job}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((KUBERAY / name).read_text()))


def clusters() -> list[dict[str, Any]]:
    return [documents("raycluster.yaml")[0]["spec"], documents("rayjob.yaml")[0]["spec"]["rayClusterSpec"]]


def test_a_job_has_the_cluster_that_the_page_describes() -> None:
    alone, in_job = clusters()
    assert alone == in_job


def check(document: dict[str, Any]) -> None:
    """Raises for a field that its published schema does not have, and for a value that is none of its type."""
    if document["apiVersion"] == "ray.io/v1":
        assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
        SPECS[document["kind"]].model_validate(document["spec"])
        for number, template in enumerate(templates(document["spec"])):
            assert set(template) <= {"metadata", "spec"}
            check({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"pod-{number}"}, **template})
    else:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def templates(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pods' templates of a cluster, or of a job's cluster."""
    cluster = spec.get("rayClusterSpec", spec)
    yield cluster["headGroupSpec"]["template"]
    for group in cluster["workerGroupSpecs"]:
        yield group["template"]


@pytest.mark.parametrize("name", ["shared.yaml", "raycluster.yaml", "rayjob.yaml"])
def test_the_manifests_are_valid_by_the_published_schemas(name: str) -> None:
    for document in documents(name):
        check(document)


def test_a_misspelt_field_and_a_wrong_type_are_found() -> None:
    job = documents("rayjob.yaml")[0]
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    with pytest.raises(ValidationError, match="num-cpus"):
        check(job)
    job = documents("rayjob.yaml")[0]
    next(templates(job["spec"]))["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="volumeMount"):
        check(job)


def test_the_head_works_not_and_workers_ask_for_what_they_limit() -> None:
    for spec in clusters():
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        for group in spec["workerGroupSpecs"]:
            (container,) = group["template"]["spec"]["containers"]
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert int(container["resources"]["limits"]["nvidia.com/gpu"]) > 0
            assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_all_pods_share_a_volume_and_have_shared_memory() -> None:
    claims = {each["metadata"]["name"] for each in documents("shared.yaml") if each["kind"] == "PersistentVolumeClaim"}
    for spec in clusters():
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            pod = group["template"]["spec"]
            volumes = {volume["name"]: volume for volume in pod["volumes"]}
            mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
            assert mounts == {"shared": "/shared", "shm": "/dev/shm"}
            assert volumes["shared"]["persistentVolumeClaim"]["claimName"] in claims
            assert volumes["shm"]["emptyDir"]["medium"] == "Memory"


def test_ray_drains_a_pod_for_nearly_as_long_as_kubernetes_waits() -> None:
    """Ray's default of 30 s would end it before a worker has saved; past the grace period Kubernetes kills it."""
    from ray._private import ray_constants

    for spec in clusters():
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            pod = group["template"]["spec"]
            variables = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
            drains_s = float(variables["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
            assert hasattr(ray_constants, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S")
            assert 240 <= drains_s <= pod["terminationGracePeriodSeconds"] - 20


def test_a_job_whose_head_is_lost_is_started_again_and_goes_on() -> None:
    """KubeRay starts the same entrypoint in a new cluster. It gives the entrypoint to a shell of another pod, Ray to one of the
    head: what is no plain word would mean something there."""
    job = documents("rayjob.yaml")[0]["spec"]
    assert 1 <= job["backoffLimit"] <= 3
    assert shlex.join(job["entrypoint"].split()) == job["entrypoint"]
    assert job["entrypoint"].startswith("python -m distmed.cluster.again train /shared/")
    assert find_spec("distmed.cluster.again")


def test_no_secret_stands_in_a_manifest() -> None:
    for spec in clusters():
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            names = {each["name"] for each in group["template"]["spec"]["containers"][0]["env"]}
            assert not [name for name in names if "KEY" in name or "TOKEN" in name]


def test_the_file_for_a_cloud_is_valid_by_rays_schema_and_its_head_can_start() -> None:
    import jsonschema
    import ray

    cluster = yaml.safe_load((KUBERAY.parent / "cluster.yaml").read_text())
    jsonschema.validate(cluster, json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text()))
    shared = " ".join(cluster["docker"]["run_options"])
    # Ray itself says --net=host, and Docker takes it once; a host without a GPU cannot give one to its container.
    assert "--net" not in shared and "--gpus" not in shared
    for commands in (cluster["head_start_ray_commands"], cluster["worker_start_ray_commands"]):
        assert "RAY_AUTH_MODE=token ray start" in commands[-1]
    assert "~/.ray/auth_token" in cluster["file_mounts"]
