"""What launch scripts ask before they start anything."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from distmed.cluster import again
from distmed.cluster.launch import facts
from distmed.cluster.package import LIMIT_BYTES, check_size, runtime_env, size_of
from distmed.cluster.wait import missing_after
from distmed.errors import UserError
from distmed.train.lock import STALE_S

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "name", "workers"),
    [
        ([], "smoke", "-"),
        (["name=a", "train.max_steps=3"], "a", "-"),
        ([str(ROOT / "recipes" / "smoke.yaml"), "--name", "b", "--num-workers=4"], "b", "4"),
        ([str(ROOT / "recipes" / "tune_phenopackets.yaml"), "--num-trials", "3", "name=d"], "d", "-"),
        (["--force", "--name", "e", str(ROOT / "recipes" / "smoke.yaml"), "name=f"], "e", "-"),
        (["--name=c", "cluster.num_workers=[2,8]", "--resume"], "c", "8"),
    ],
)
def test_the_name_of_a_run_and_whether_it_says_how_many_workers(
    arguments: list[str], name: str, workers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert facts(arguments) == f"{name} {workers} {tmp_path}/runs/{name}"


def test_a_run_that_goes_on_without_a_recipe_is_asked_by_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its range of workers would become a fixed number otherwise."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "first"
    run.mkdir(parents=True)
    smoke = (ROOT / "recipes" / "smoke.yaml").read_text()
    (run / "recipe.yaml").write_text(f"{smoke}\ncluster: {{num_workers: [2, 8]}}\n")
    assert facts(["--name", "first", "--resume"]) == f"first 8 {run}"
    assert facts(["--name", "first"]) == f"first - {run}"


def test_a_job_that_is_started_again_goes_on_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an entrypoint that is the same each time."""
    monkeypatch.setenv("DISTMED_RUNS", str(tmp_path))
    words = ["train", str(ROOT / "recipes" / "smoke.yaml"), "name=first"]
    assert again.command(words) == words
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "recipe.yaml").touch()
    assert again.command(words) == [*words, "--resume"]
    assert again.command([*words, "--resume"]) == [*words, "--resume"]


def test_a_job_that_is_started_again_waits_until_its_dead_driver_is_known_to_be_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another host only the age of the lock tells; a driver that lives is left to `distmed train`, which names it."""
    lock = tmp_path / "lock.json"
    lock.write_text('{"host": "head-before", "pid": 7}')
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        os.utime(lock, (time.time() - 2 * STALE_S,) * 2)

    monkeypatch.setattr("time.sleep", sleep)
    again.wait_for_dead_driver(lock)
    assert len(slept) == 1
    os.utime(lock)
    monkeypatch.setattr(again, "PATIENCE_S", 0.0)
    again.wait_for_dead_driver(lock)
    assert len(slept) == 1


def test_runs_go_to_a_shared_folder_where_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTMED_RUNS", "/shared/runs")
    assert facts(["name=a"]).endswith(" /shared/runs/a")


def test_a_mistake_is_told_before_anything_starts() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "distmed.cluster.launch", "train.max_stepz=1"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 2
    assert done.stderr == "error: unknown recipe key: train.max_stepz\n  fix: did you mean `max_steps`?\n"


def test_missing_nodes_are_named_when_time_is_up() -> None:
    answers = iter([{"n1"}, {"n1", "n3"}])
    assert missing_after(0.01, ["n1", "n2", "n3"], lambda: next(answers, {"n1", "n3"})) == ["n2"]
    assert missing_after(60, ["n1"], lambda: {"n1", "another"}) == []


def test_what_is_shipped_is_counted_without_what_is_excluded(tmp_path: Path) -> None:
    for name, size in {
        "runs/a/log": 9,
        "distmed/a.py": 3,
        "distmed/__pycache__/a.pyc": 9,
        "big.safetensors": 9,
        ".env": 9,
        "serve/.env.production": 9,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    excludes = yaml.safe_load((ROOT / "launch" / "runtime_env.yaml").read_text())["excludes"]
    assert size_of(tmp_path, excludes) == {"distmed": 3}


def test_links_are_counted_as_what_ray_ships_and_what_git_ignores_is_not(tmp_path: Path) -> None:
    work, corpus = tmp_path / "work", tmp_path / "scratch"
    for folder in (work / "kept", corpus):
        folder.mkdir(parents=True)
        (folder / "rows").write_bytes(b"x" * 5)
    (work / "corpus").symlink_to(corpus)
    (work / ".gitignore").write_text("kept\n")
    assert size_of(work, []) == {"corpus": 5, ".gitignore": 5}


def test_a_working_directory_that_is_too_large_is_refused_with_its_largest_folders() -> None:
    with pytest.raises(UserError, match=r"is 151 MiB, Ray takes 100; largest: corpus \(150 MiB\), src \(1 MiB\)"):
        check_size(Counter({"src": 2**20, "corpus": 150 * 2**20}))
    assert check_size(Counter({"src": LIMIT_BYTES})) == LIMIT_BYTES


def test_no_secret_is_handed_on_with_a_job() -> None:
    shell = {"DISTMED_RUNS": "/shared", "WANDB_API_KEY": "planted", "HF_TOKEN": "planted", "WANDB_MODE": "offline"}
    made = runtime_env({"excludes": [], "env_vars": {"A": "1"}}, shell)
    assert made["env_vars"] == {"A": "1", "DISTMED_RUNS": "/shared", "WANDB_MODE": "offline"}
    assert "planted" not in str(made)


def test_settings_of_nccl_and_gloo_are_handed_on_with_a_job() -> None:
    settings = {"NCCL_DEBUG": "INFO", "NCCL_IB_HCA": "mlx5", "NCCL_IB_PKEY": "1", "GLOO_SOCKET_IFNAME": "ib0"}
    secrets = {"NCCL_PROXY_TOKEN": "planted", "GLOO_API_KEY": "planted", "NCCL_PLUGIN_PASSWORD": "planted"}
    made = runtime_env({"excludes": []}, {**settings, **secrets, "PATH": "/bin", "MY_NCCL_DEBUG": "INFO"})
    assert made["env_vars"] == settings


@pytest.mark.parametrize(
    ("words", "started"),
    [
        (["tune", "r.yaml", "name=a", "--num-workers", "2"], "distmed tune r.yaml name=a --num-workers 2"),
        (["r.yaml", "name=a", "--no-wait"], "distmed train r.yaml name=a"),
    ],
)
def test_submit_starts_a_run_or_a_search(words: list[str], started: str, tmp_path: Path) -> None:
    """With a `ray` that only tells how it was called."""
    ray = tmp_path / "bin" / "ray"
    ray.parent.mkdir()
    ray.write_text('#!/bin/sh\necho "ray $*"\n')
    ray.chmod(0o755)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "r.yaml").write_text((ROOT / "recipes" / "smoke.yaml").read_text())
    path = f"{ray.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "RAY_API_SERVER_ADDRESS": "http://head:8265",
        "DISTMED_RUNS": str(tmp_path / "runs"),
    }
    command = [str(ROOT / "launch" / "submit.sh"), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path / "work", env=environment)
    assert done.returncode == 0, done.stderr
    submitted = done.stdout.splitlines()[-1]
    assert submitted.startswith("ray job submit --submission-id a ")
    assert submitted.endswith(f"-- python -m {started}")
    assert ("--no-wait" in submitted) == ("--no-wait" in words)
