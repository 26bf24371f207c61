"""The recipe: a surface that others script against, and whose mistakes are named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from distmed import shipped
from distmed.errors import UserError
from distmed.recipe import Lora, Recipe, Source
from distmed.recipe_file import check, load_recipe
from distmed.tuning import Change, Knob, Tune

LEAST: dict[str, Any] = {"name": "a", "task": "classify", "model": {"path": "m"}, "data": {"train": [{"source": "x"}]}}
SHIPPED = sorted(shipped.folder("recipes").glob("*.yaml"))

KEYS = """
checkpoint.best checkpoint.every checkpoint.keep checkpoint.retry_s checkpoint.storage_path
changes
choice.answers choice.chat choice.letter_prompt choice.max_new_tokens choice.shot_choice choice.shot_seed choice.shots
choice.text_prompt
cluster.collective_timeout_s cluster.max_failures cluster.max_preemptions cluster.num_workers
cluster.sequence_parallel cluster.stall_timeout_s cluster.wait_s
data.class_weights data.drop_findings data.eval data.excluded_findings data.long_cases data.on_end data.on_error
data.packing data.sampling data.seq_len data.shuffle_findings data.skip_budget
data.test data.token_cache data.train data.unknown_labels
deepspeed
model.attention model.dropout model.freeze model.init model.lora model.path model.quantize model.revision
model.trust_remote_code
name
optimizer.betas optimizer.eps optimizer.head_lr optimizer.lr optimizer.max_grad_norm optimizer.name optimizer.schedule
optimizer.warmup optimizer.weight_decay
task
tracking.group tracking.log_examples tracking.project tracking.tags tracking.wandb
train.activation_checkpointing train.epochs train.eval_every train.focal_gamma train.global_batch
train.label_smoothing train.linear_floor train.log_every train.loss train.max_steps train.micro_batch train.mlp_tiles
train.precision
train.profile
train.seed
tune
"""


def keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += keys(field.annotation, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


def test_the_keys_are_those_that_others_script_against() -> None:
    assert sorted(keys(Recipe)) == sorted(KEYS.split())


def test_every_knob_says_in_a_sentence_what_it_does() -> None:
    def silent(section: type[BaseModel]) -> list[str]:
        inner = [f.annotation for f in section.model_fields.values()]
        nested = [s for s in inner if isinstance(s, type) and issubclass(s, BaseModel)]
        own = [n for n, f in section.model_fields.items() if not f.description and f.annotation not in nested]
        return own + [name for each in nested for name in silent(each)]

    assert set(silent(Recipe)) <= {"model", "data", "lora"}


def test_a_resolved_recipe_read_again_is_the_same(tmp_path: Path) -> None:
    recipe = check(LEAST)
    (tmp_path / "again.yaml").write_text(recipe.to_yaml())
    assert load_recipe(tmp_path / "again.yaml") == recipe


@pytest.mark.parametrize(
    ("source", "mode"), [("https://host/a.jsonl", 0o644), ("https://ada:secret@host/a.jsonl", 0o600)]
)
def test_a_recipe_with_credentials_is_for_its_owner(tmp_path: Path, source: str, mode: int) -> None:
    path = tmp_path / "recipe.yaml"
    before = os.umask(0o022)
    load_recipe(shipped.folder("recipes") / "smoke.yaml", [f"data.train.0.source={source}"]).write(path)
    os.umask(before)
    assert path.stat().st_mode & 0o777 == mode
    assert load_recipe(path).data.train[0].source == source


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_recipe_is_valid(path: Path) -> None:
    load_recipe(path)


def test_recipes_are_shipped() -> None:
    assert "smoke.yaml" in [path.name for path in SHIPPED]


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        ({**LEAST, "trian": {}}, "unknown recipe key: trian", "did you mean `train`?"),
        ({**LEAST, "train": {"global_bach": 1}}, "unknown recipe key: train.global_bach", "`global_batch`"),
        (
            {**LEAST, "data": {"train": [{"source": "x", "wher": {}}]}},
            "unknown recipe key: data.train.0.wher",
            "`where`",
        ),
        ({**LEAST, "model": {"path": "m", "lora": {"rnk": 4}}}, "unknown recipe key: model.lora.rnk", "`rank`"),
        (
            {**LEAST, "tune": {"space": {"optimizer.lr": {"unifrom": [1e-5, 1e-3]}}}},
            "unknown recipe key: tune.space.optimizer.lr.unifrom",
            "`uniform`",
        ),
        ({**LEAST, "tune": {"space": {"choice": {"choces": [1]}}}}, "tune.space.choice.choces", "`choice`"),
        ({**LEAST, "train": {"epochs": "many"}}, "train.epochs", "mend the value"),
        ({**LEAST, "train": {"epochs": float("inf")}}, "train.epochs", "mend the value"),
        ({**LEAST, "train": {"micro_batch": 0}}, "train.micro_batch", "mend the value"),
        ({**LEAST, "optimizer": {"schedule": "cosin"}}, "optimizer.schedule", "mend the value"),
        ({"name": "a", "model": {"path": "m"}, "data": LEAST["data"]}, "the recipe lacks task", "add `task:`"),
        ({**LEAST, "name": "../a"}, "name", "mend the value"),
        (
            {**LEAST, "train": {"global_batch": 2}, "cluster": {"num_workers": 3}},
            "3 workers share train.global_batch=2",
            "raise one or lower the other",
        ),
        (
            {**LEAST, "data": {"train": [{"source": "x", "weight": 2}, {"source": "y"}]}},
            "y has no weight, others have",
            "give every source a weight, or none",
        ),
    ],
)
def test_a_mistake_is_named_with_its_mend(values: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(UserError) as error:
        check(values)
    assert message in error.value.message
    assert hint in error.value.hint
    assert "\n" not in error.value.message + error.value.hint


def test_overrides_take_dotted_paths_and_list_indices(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(LEAST))
    recipe = load_recipe(path, ["optimizer.lr=1e-5", "data.train.0.source=s3://b/x", "name=b", "model.lora.rank=4"])
    assert recipe.optimizer.lr == 1e-5
    assert recipe.data.train[0].source == "s3://b/x"
    assert recipe.name == "b"
    assert recipe.model.lora is not None and recipe.model.lora.rank == 4


def test_codes_times_and_words_are_what_they_look_like(tmp_path: Path) -> None:
    """YAML 1.1 reads 10, 750 and false."""
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(LEAST) + "choice: {answers: [yes, no]}\n")
    values = ["code=012", "time=12:30", "answer=no", "closed=true", "year=2016", "dose='1e5'"]
    recipe = load_recipe(path, [*(f"data.train.0.where.{value}" for value in values)])
    where = {"code": "012", "time": "12:30", "answer": "no", "closed": True, "year": 2016, "dose": "1e5"}
    assert recipe.data.train[0].where == where
    assert recipe.choice.answers == ["yes", "no"]
    path.write_text(recipe.to_yaml())
    assert load_recipe(path) == recipe


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lr", "not an override"),
        ("data.train.3.source=x", "`3` is no index of a list of 1"),
        ("name.deep=x", "`name` holds a value"),
        ("optimizer.lrr=1", "unknown recipe key: optimizer.lrr"),
    ],
)
def test_a_wrong_override_is_named(tmp_path: Path, override: str, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(LEAST))
    with pytest.raises(UserError) as error:
        load_recipe(path, [override])
    assert message in error.value.message


def test_a_file_that_is_no_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="recipe not found"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(UserError, match="is not YAML"):
        load_recipe(tmp_path / "broken.yaml")
    (tmp_path / "list.yaml").write_text("- a")
    with pytest.raises(UserError, match="holds no recipe"):
        load_recipe(tmp_path / "list.yaml")


def test_the_page_on_recipes_names_every_knob_with_its_default() -> None:
    page = (Path(__file__).parents[1] / "docs" / "recipe.md").read_text()
    for name in KEYS.split():
        assert f"| `{name}` |" in page, name
    for section in (Recipe, Source, Lora, Tune, Knob, Change):
        for field in section.model_fields.values():
            assert (field.description or "").replace("|", "\\|") in page
