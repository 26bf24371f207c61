"""What a user gets wrong about a search: one line says what, one says how to mend it, status 2, nothing left behind."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from distmed.errors import UserError
from distmed.recipe_file import check
from distmed.rundir import RunDir
from distmed.train.lock import RunLock
from distmed.tune.checks import check_resume
from tests.tune.conftest import SMALL, TuneDoor, changed


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"tune": None}, "the recipe has no `tune:` block", "recipes/tune_phenopackets.yaml"),
        ({"tune__space": {}}, "tune.space names no key", "give it one"),
        ({"tune__space": {"optimizer.lrr": {"uniform": [0, 1]}}}, "unknown recipe key: optimizer.lrr", "`lr`"),
        (
            {"tune__space": {"train.micro_batch": {"uniform": [1, 4]}}},
            "tune.space.train.micro_batch: 2.11 does not fit",
            "mend the knob",
        ),
        ({"tune__space": {"optimizer.lr": {"uniform": [-1, 1]}}}, "tune.space.optimizer.lr: -1.0", "mend the knob"),
        ({"tune__space": {"optimizer.lr": {"choice": []}}}, "nothing to choose from", "at least one value"),
        ({"tune__search": "grid"}, "grid needs whole lists", "give it `choice`"),
        ({"tune__metric": "diag/makro_f1"}, "no evaluation gives diag/makro_f1", "diag/macro_f1"),
        ({"tune__mode": "min"}, "tune.mode=min, but the better diag/macro_f1 is the max one", "leave tune.mode out"),
        ({"data__test": [{"source": "dve.jsonl"}]}, "dve.jsonl", ""),
        ({"data__eval": []}, "a search needs data.eval to choose by", "add eval cases"),
        ({"tune__scheduler": "hyperband"}, "tune.scheduler", "mend the value"),
        ({"tune__trials": 0}, "tune.trials", "mend the value"),
        ({"tune__spaces": {}}, "unknown recipe key: tune.spaces", "`space`"),
        (
            {"tune__scheduler": "pbt", "tune__space": {"data.seq_len": {"randint": [64, 128]}}},
            "pbt cannot change data.seq_len",
            "or use asha",
        ),
        (
            {"tune__scheduler": "pbt", "changes": [{"step": 2, "set": {"optimizer.lr": 1e-4}}]},
            "pbt cannot vary optimizer.lr, which the recipe's own `changes` set",
            "take it out of `changes`",
        ),
        ({"tune__space": {"deepspeed": {"choice": ["zero3", "zero4"]}}}, "tune.space.deepspeed: 'zero4'", ""),
        ({"tune__initial": [{"train.loss": "focal"}]}, "tune.initial: train.loss is no knob", "knobs: optimizer.lr"),
    ],
)
def test_a_mistake_in_the_block_is_named_before_a_cluster_is_asked_for(
    early: TuneDoor, changes: dict[str, Any], message: str, hint: str
) -> None:
    refusal = early.refuse(changed(SMALL, **changes))
    assert message in refusal.message
    assert hint in refusal.hint


@pytest.mark.parametrize(
    "knob",
    [
        {"train.loss": {"choice": ["cross_entropy", "focal"]}},
        {"optimizer.head_lr": {"loguniform": [1e-5, 1e-2]}},
        {"data.class_weights": {"choice": ["none", "balanced"]}},
    ],
    ids=lambda knob: next(iter(knob)),
)
def test_a_knob_that_the_task_has_no_use_for_is_refused(early: TuneDoor, knob: dict[str, Any]) -> None:
    refusal = early.refuse(changed(SMALL, task="generate", tune__space=knob))
    assert f"tune.space.{next(iter(knob))}: " in refusal.message
    assert "a run that generates would do nothing with it" in refusal.message


def test_a_knob_that_the_model_has_no_use_for_is_refused(early: TuneDoor) -> None:
    from transformers import AutoTokenizer, BertConfig

    folder = early.folder / "encoder"
    BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]))
    assert AutoTokenizer.from_pretrained(folder).pad_token == "[PAD]"
    knob = {"train.mlp_tiles": {"choice": [1, 4]}}
    refusal = early.refuse(changed(SMALL, model={"path": str(folder), "init": "random"}, tune__space=knob))
    assert (
        "tune.space.train.mlp_tiles: 4 does not fit: train.mlp_tiles was tested with decoders only" in refusal.message
    )


def test_a_knob_that_the_deepspeed_file_decides_is_refused(early: TuneDoor) -> None:
    (early.folder / "own.json").write_text(json.dumps({"optimizer": {"type": "AdamW", "params": {"lr": 3e-4}}}))
    refusal = early.refuse(changed(SMALL, deepspeed="own.json"))
    assert "tune.space.optimizer.lr: 1e-05 does not fit: the DeepSpeed file says optimizer.params.lr" in refusal.message


def test_a_resume_of_nothing_is_named(early: TuneDoor) -> None:
    refusal = early.refuse(SMALL, "--resume")
    assert "no search to resume" in refusal.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tune__space": {"optimizer.lr": {"loguniform": [1e-5, 1e-1]}}}, "tune.space.optimizer.lr.loguniform"),
        ({"train__max_steps": 9}, "another train.max_steps"),
        (
            {"tune__space": {**SMALL["tune"]["space"], "optimizer.warmup": {"uniform": [0, 1]}}},
            "space.optimizer.warmup",
        ),
        ({"tune__scheduler": "median"}, "another tune.scheduler"),
    ],
)
def test_a_search_is_not_resumed_as_another(early: TuneDoor, changes: dict[str, Any], message: str) -> None:
    run = RunDir(early.folder / "runs" / "small")
    run.path.mkdir(parents=True)
    run.recipe.write_text(check(SMALL).to_yaml())
    check_resume(check(changed(SMALL, tune__trials=50, tune__time_s=9.0)), run, resume=True)
    with pytest.raises(UserError) as error:
        check_resume(check(changed(SMALL, **changes)), run, resume=True)
    assert message in error.value.message
    with pytest.raises(UserError, match="exists already"):
        check_resume(check(SMALL), run, resume=False)


def test_a_search_goes_on_with_a_newer_version_whose_recipes_have_another_key(early: TuneDoor) -> None:
    run = RunDir(early.folder / "runs" / "small")
    run.path.mkdir(parents=True)
    older = yaml.safe_load(check(SMALL).to_yaml())
    del older["train"]["mlp_tiles"], older["tune"]["grace"]
    run.recipe.write_text(yaml.safe_dump(older))
    check_resume(check(SMALL), run, resume=True)


@pytest.mark.parametrize("left", ["small-00000", "small-00012.3"])
def test_a_new_search_does_not_go_on_from_the_weights_of_an_older_one(early: TuneDoor, left: str) -> None:
    store = early.folder / "store"
    for name in ("other-00000", "small-best", left):
        (store / name / "step-00000240-world-1-attempt-0").mkdir(parents=True)
    refusal = early.refuse(changed(SMALL, checkpoint__storage_path=str(store)))
    assert refusal.message == f"{store} holds checkpoints of an earlier search of this name: {left}"
    assert "--name" in refusal.hint


def test_the_test_cases_may_change_until_a_model_was_scored_on_them(early: TuneDoor) -> None:
    run = RunDir(early.folder / "runs" / "small")
    (run / "test" / "0").mkdir(parents=True)
    run.recipe.write_text(check(changed(SMALL, data__test=[{"source": "dve.jsonl"}])).to_yaml())
    mended = check(changed(SMALL, data__test=[{"source": "dev.jsonl"}]))
    check_resume(mended, run, resume=True)
    (run / "test" / "0" / "metrics.json").write_text("{}")
    with pytest.raises(UserError, match=r"had another data\.test"):
        check_resume(mended, run, resume=True)


def test_a_search_that_runs_is_not_started_twice(early: TuneDoor) -> None:
    run = RunDir(early.folder / "runs" / "small")
    run.path.mkdir(parents=True)
    run.recipe.write_text(check(SMALL).to_yaml())
    with RunLock(run.lock, "small"):
        assert early.status(SMALL, "--resume") == 2
    assert early.capfd is not None
    assert "run small is being trained by process" in early.capfd.readouterr().err
    assert run.recipe.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_address")
@pytest.mark.parametrize("workers", [500, [1, 500]])
def test_more_workers_than_the_cluster_has_are_refused(door: TuneDoor, workers: int | list[int]) -> None:
    refusal = door.refuse(changed(SMALL, train__global_batch=512, cluster={"num_workers": workers}))
    assert "500 workers want a" in refusal.message
    assert "lower --num-workers" in refusal.hint
