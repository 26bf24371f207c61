"""`launch/stage.sh` and `launch/Containerfile`: what is packed comes out again, and names what is there.

With a `python` that only notes how it was called and leaves what it was asked for: packing in earnest is the network's work.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FAKE = f"""#!{sys.executable}
import json, pathlib, sys
words = sys.argv[1:]
with pathlib.Path(__file__).with_name("called").open("a") as file:
    file.write(json.dumps(words) + "\\n")
if "wheel" in words:
    pathlib.Path(words[words.index("--wheel-dir") + 1], "distmed-1-py3-none-any.whl").write_text("wheel")
elif "download" in words:
    folder = pathlib.Path(words[words.index("--local-dir") + 1])
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{{}}")
elif "venv" in words:
    bin = pathlib.Path(words[-1], "bin")
    bin.mkdir(parents=True)
    for name in ("pip", "distmed", "called"):
        (bin / name).symlink_to(pathlib.Path(__file__).with_name("called" if name == "called" else "python"))
"""


class Stage:
    """The script with its fake python; `calls` are the words that it was given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("python", "python3"):
            (self.bin / name).write_text(FAKE)
            (self.bin / name).chmod(0o755)
        (folder / "train.jsonl").write_text("{}\n")

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}"}
        command = [str(ROOT / "launch" / "stage.sh"), *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env=environment)

    @property
    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.bin / "called").read_text().splitlines()]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    made = Stage(tmp_path)
    done = made("pack", "stage", "--model", "some/model@abc", "--data", "train.jsonl", "--data", "some/cases")
    assert done.returncode == 0, done.stderr
    return made


def test_what_is_packed_comes_out_again(stage: Stage) -> None:
    sums = (stage.folder / "stage" / "SHA256SUMS").read_text()
    for name in (
        "wheels/distmed-1",
        "models/some--model/config",
        "data/train.jsonl",
        "data/some--cases/",
        "slurm/train.sh",
    ):
        assert name in sums
    done = stage("unpack", "stage", "venv")
    assert done.returncode == 0, done.stderr
    install = next(words for words in stage.calls if words[0] == "install")
    assert "--no-index" in install
    assert install[install.index("--find-links") + 1] == str(stage.folder / "stage" / "wheels")
    assert str(stage.folder / "stage" / "models" / "some--model") in done.stdout


@pytest.mark.parametrize(
    ("words", "extras"), [([], "gpu,privacy,quant"), (["--extras", "privacy,quant"], "privacy,quant")]
)
def test_what_distmed_needs_for_some_verbs_is_packed_and_installed(
    words: list[str], extras: str, tmp_path: Path
) -> None:
    stage = Stage(tmp_path)
    for done in (stage("pack", "stage", *words), stage("unpack", "stage", "venv")):
        assert done.returncode == 0, done.stderr
    wheel = next(called for called in stage.calls if "wheel" in called)
    install = next(called for called in stage.calls if called[0] == "install")
    assert (wheel[-1], install[-1]) == (f"{ROOT}[{extras}]", f"distmed[{extras}]")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["pack"],
        ["unpack", "stage"],
        ["pack", "stage", "--model"],
        ["pack", "stage", "--modl", "some/model"],
        ["pack", "stage", "--extras"],
        ["pack", "stage", "--extras", "privacy,qant"],
    ],
)
def test_what_is_wrong_with_the_words_is_told_before_anything_is_packed(words: list[str], tmp_path: Path) -> None:
    done = Stage(tmp_path)(*words)
    assert done.returncode == 2
    assert "launch/stage.sh pack FOLDER" in done.stderr
    assert not (tmp_path / "stage").exists()


def test_two_sources_of_one_name_are_refused_and_not_merged(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    for site in ("a", "b"):
        (tmp_path / site / "notes").mkdir(parents=True)
        (tmp_path / site / "notes" / f"{site}.jsonl").write_text("{}\n")
    done = stage("pack", "stage", "--data", "a/notes", "--data", "b/notes")
    assert done.returncode == 2
    assert "stage/data/notes is there already" in done.stderr
    assert [path.name for path in (tmp_path / "stage" / "data" / "notes").iterdir()] == ["a.jsonl"]


def test_two_revisions_of_a_model_are_refused_and_not_merged(tmp_path: Path) -> None:
    done = Stage(tmp_path)("pack", "stage", "--model", "some/model@a", "--model", "some/model@b")
    assert done.returncode == 2
    assert "some/model is named twice" in done.stderr


def test_a_file_that_changed_on_the_way_is_refused(stage: Stage) -> None:
    (stage.folder / "stage" / "data" / "train.jsonl").write_text("{}\n{}\n")
    done = stage("unpack", "stage", "venv")
    assert done.returncode != 0
    assert "train.jsonl: FAILED" in done.stdout
    assert not (stage.folder / "venv").exists()


def test_a_model_is_asked_for_as_the_hub_understands_it(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.cli import download, hf

    asked: dict[str, Any] = {}
    monkeypatch.setattr(download, "snapshot_download", lambda **words: asked.update(words) or "there")
    words = next(words for words in stage.calls if "some/model" in words)
    hf.app(words[words.index("download") :], standalone_mode=False)
    assert (asked["repo_id"], asked["revision"]) == ("some/model", "abc")
    assert asked["ignore_patterns"] == ["*.bin", "*.pt", "*.h5", "*.msgpack"]


def test_the_container_copies_what_is_there_and_installs_what_exists() -> None:
    text = (ROOT / "launch" / "Containerfile").read_text()
    for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
        *sources, _ = line.split()
        assert all((ROOT / source).exists() for source in sources), line
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", text)
    packed = re.search(r"^EXTRAS=(.+)$", (ROOT / "launch" / "stage.sh").read_text(), re.MULTILINE)
    assert packed and extras == packed[1]
    assert {*extras.split(",")} <= {*project["project"]["optional-dependencies"]}
    # What the build of a wheel takes in has to be in the image.
    copied = {word.rstrip("/") for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for word in line.split()[:-1]}
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {
        *included["packages"],
        *included["force-include"],
        project["project"]["readme"],
        "constraints.txt",
    } <= copied
    assert text.count("--constraint constraints.txt") == text.count("pip install")
