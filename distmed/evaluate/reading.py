"""Reading: the cases to be scored, how they are asked, and over which labels; all that can be wrong with them is found here.

Sources and an opened model flow in; cases, a mode and a label space flow out, before any model is loaded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distmed.cases.case import Case
from distmed.errors import UserError, one_of
from distmed.evaluate.integrity import check_ids
from distmed.evaluate.labels import LabelSpace, read_mapping, write_draft
from distmed.evaluate.loading import Opened
from distmed.evaluate.pool import Mode
from distmed.prepare.manifest import Manifest
from distmed.prepare.open import open_source
from distmed.prepare.shards import read_cases_of
from distmed.recipe import Source

DRAFT = "label_map.csv"
MOST_CANDIDATES = 2000
LABELS_OF_DATA = (
    "The diagnoses to choose among are the labels of these cases, since no --train was given: no other answer is possible, so "
    "figures are better than they would be in use."
)


@dataclass(frozen=True)
class Read:
    """A source that was read: its cases and its manifest."""

    source: str
    manifest: Manifest
    cases: list[Case]


def read_source(source: Source, cache: Path) -> Read:
    """All cases of a source; shards of a raw one lie in `cache` while it is read. Raises UserError, also for ids used twice."""
    manifest = open_source(source, cache)
    cases = list(read_cases_of(manifest))
    check_ids(cases, source.source)
    return Read(source.source, manifest, cases)


@dataclass(frozen=True)
class Asked:
    """How the model is asked and over which labels. `notes`: what a reader of the figures must know of the data."""

    opened: Opened
    mode: Mode
    space: LabelSpace
    labels_from: str
    notes: list[str]


def settle(opened: Opened, read: Mapping[str, Read], mapping: Path | None, out: Path) -> Asked:
    """The model over labels that fit the sources `data`, `train` and `calibration`. Raises UserError where nothing does.

    `mapping`: a file from the data's labels to the model's; a draft of one may be written into `out`.
    """
    data, train = read["data"], read.get("train")
    mode = mode_of(opened, data)
    if mode == "choice":
        _check_for_exam(data, {"--calibration": read.get("calibration"), "--map": mapping})
    opened, labels_from = label_space(opened, mode, data.cases, train.cases if train else [])
    space, notes = LabelSpace(opened.labels, opened.label_names), []
    if mode == "diagnosis":
        space = LabelSpace(opened.labels, opened.label_names, read_mapping(mapping, space) if mapping else {})
        notes = [LABELS_OF_DATA] if labels_from == "data" else []
        notes += shared_names(opened) + check_overlap(space, data, out)
    return Asked(opened, mode, space, labels_from, notes + check_groups(read) + names_apart(read))


def mode_of(opened: Opened, read: Read) -> Mode:
    """How the model is asked: over diagnoses, or with exam questions, which only a generator can be."""
    kinds = sorted({case.kind for case in read.cases})
    if opened.task == "classify":
        return "diagnosis"
    if len(kinds) > 1:
        raise UserError(f"{read.source} mixes cases of the kinds {one_of(list(kinds))}", "evaluate them apart")
    if kinds == ["dialogue"]:
        raise UserError(
            f"{read.source} holds conversations, which have no diagnosis to score", "name cases or exam questions"
        )
    return "choice" if kinds == ["choice"] else "diagnosis"


def label_space(opened: Opened, mode: Mode, data: Sequence[Case], train: Sequence[Case]) -> tuple[Opened, str]:
    """The model with labels to score over, and where they are from: its head, else the training cases, else the data."""
    if mode == "choice":
        return opened, "data"
    if opened.labels:
        return opened, "model"
    names: dict[str, str] = {}
    for case in [*train] or data:
        if case.label is not None:
            names.setdefault(case.label, case.label_name or case.label)
    if not names:
        raise UserError("no case has a label", "for cases without one there is `distmed predict`")
    if opened.task == "generate" and len(names) > MOST_CANDIDATES:
        raise UserError(
            f"{len(names)} diagnoses are too many to score each as an answer (at most {MOST_CANDIDATES})",
            "evaluate a classifier, or fewer diagnoses",
        )
    labels = sorted(names)
    return opened.over(labels, [names[label] for label in labels]), "train" if train else "data"


def shared_names(opened: Opened) -> list[str]:
    """A note where a generator, which answers with names, cannot tell diagnoses apart."""
    counts = Counter(opened.label_names)
    shared = sum(count for count in counts.values() if count > 1)
    if opened.task != "generate" or not shared:
        return []
    return [
        f"{shared} diagnoses share their name with another: a generator answers with names and cannot tell them apart, so the "
        "first of them always comes before the others."
    ]


def check_overlap(space: LabelSpace, read: Read, out: Path) -> list[str]:
    """A note where labels of the data look like labels of the model spelled differently; a draft to map them lies in `out`.

    Raises UserError if no case has a label, or none has one that the model knows, or each has several.
    """
    known: dict[str, str | None] = {}
    for case in read.cases:
        if case.label is not None:
            known.setdefault(case.label, case.label_name)
    if not known:
        raise UserError(f"{read.source}: no case has a label", "for cases without one there is `distmed predict`")
    meanings = {label: space.meaning(label, name).classes for label, name in known.items()}
    several = [label for label, classes in meanings.items() if len(classes) > 1]
    if several and not any(len(classes) == 1 for classes in meanings.values()):
        raise UserError(
            f"{read.source}: no label stands for one diagnosis of the model, {one_of(several, 2)} for several",
            "name data with cases of one diagnosis, or give one of each label with --map",
        )
    strange = {label: name for label, name in known.items() if not meanings[label]}
    if not strange:
        return []
    path = out / DRAFT
    near = write_draft(path, strange, space)
    if len(strange) == len(known):
        pairs = [(label, space.nearest(label, name)) for label, name in sorted(strange.items())]
        shown = [f"{label} ~ {other}" for label, other in pairs if other] or [
            f"{label} (nearest: none)" for label, _ in pairs
        ]
        raise UserError(
            f"none of the {len(known)} labels of {read.source} is one of the model's {len(space.labels)}, "
            f"such as {one_of(space.labels, 2)}: {one_of(shown, 3)}",
            f"fill in {path} and give it with --map",
        )
    if not near:
        path.unlink()
        return []
    return [
        f"{near} labels of the data look like labels of the model that are spelled differently: see {DRAFT}, --map."
    ]


def check_groups(read: Mapping[str, Read]) -> list[str]:
    """A note where papers or patients of the data or of the calibration split are in the training split, too. Those of the data
    in the calibration split are refused: a threshold would be learned from what it is reported on."""
    groups = {case.group for case in read["data"].cases}
    shared = {what: len(groups & {case.group for case in of.cases}) for what, of in read.items()}
    if shared.get("calibration"):
        raise UserError(
            f"{shared['calibration']} groups (papers, patients) of --calibration are in --data, too",
            "split by group: name a calibration split of its own",
        )
    notes = []
    if shared.get("train"):
        notes.append(
            f"{shared['train']} groups (papers, patients) of the data are in the training split, too: expect too much."
        )
    train, calibration = read.get("train"), read.get("calibration")
    if train and calibration:
        learned = len({case.group for case in calibration.cases} & {case.group for case in train.cases})
        if learned:
            notes.append(
                f"{learned} groups (papers, patients) of the calibration split are in the training split, too: "
                "temperature and thresholds are fitted on cases that the model may have learned."
            )
    return notes


def names_apart(read: Mapping[str, Read]) -> list[str]:
    """A note where groups cannot be compared: those of a de-identified folder are places, those of a table as it has them."""
    hidden = {what: bool(of.manifest.settings.get("deidentify")) for what, of in read.items()}
    apart = [f"--{what}" for what, is_hidden in hidden.items() if is_hidden != hidden["data"]]
    if not apart:
        return []
    return [
        f"Whether --data shares patients with {' or '.join(apart)} cannot be told: groups have other names where a folder is "
        "de-identified."
    ]


def _check_for_exam(data: Read, options: Mapping[str, object]) -> None:
    """What has no meaning for exam questions is refused, not passed over."""
    for option, value in options.items():
        if value is not None:
            raise UserError(f"{option} is for diagnoses, and {data.source} holds exam questions", f"leave {option} out")
