"""`distmed prepare`, readable top to bottom: sources -> parts -> who stays, and where -> shards, manifests, report.

Settings and a folder flow in, prepared folders flow out. Each half can be interrupted and continues; what is finished
from the same sources under the same settings is not done again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from distmed import __version__
from distmed.cases.case import Case
from distmed.errors import UserError, one_of
from distmed.prepare.augment import variants
from distmed.prepare.batches import make_parts
from distmed.prepare.clean import cleaned, texts_mapped
from distmed.prepare.decide import Decision, decide, overlap_lines
from distmed.prepare.decontaminate import MIN_FINDINGS, Evaluation, build, is_built
from distmed.prepare.manifest import MANIFEST, Manifest
from distmed.prepare.open import source_content, source_stamp
from distmed.prepare.parts import Parts
from distmed.prepare.read import Placed, Reader, check_sources, evaluation_set
from distmed.prepare.report import OVERLAPS, Report
from distmed.prepare.settings import Settings
from distmed.prepare.shards import write_shards
from distmed.prepare.watch import Watch

T = TypeVar("T")

WORK = ".work"
_LIBRARIES = ("ftfy", "rensa", "pyarrow")


def prepare(settings: Settings, out: Path, *, processes: int, watch: Watch) -> Report:
    """Prepare the sources into `out` (or, with a split, into a folder for each split in it), and say what became of them.

    Raises UserError for whatever the user can mend; started again, it goes on where it was.
    """
    if settings.deidentify:
        from distmed.prepare.recognizers import require_presidio

        require_presidio()
    fingerprint = _fingerprint(settings)
    finished = _finished(settings, out, fingerprint)
    if finished is not None:
        shutil.rmtree(out / WORK, ignore_errors=True)
        watch.line(f"{out} is prepared already, from the same sources with the same settings")
        return finished
    check_sources(settings)
    parts = Parts(out / WORK, fingerprint)
    if parts.fresh:
        _clear(out)
    evaluation = _evaluation(settings, parts, watch)
    _read(settings, parts, evaluation, processes, watch)
    with watch.phase("comparing the cases"):
        decision = decide(settings, parts, Evaluation.open(evaluation) if evaluation else None)
    report = _report(settings, parts, decision, fingerprint)
    if not (decision.split_N >= 0).any():
        raise _nothing_left(report)
    if evaluation:
        report = _list_overlaps(report, out, parts, decision, Evaluation.open(evaluation))
    groups_N = parts.array("group_hash")
    for number, name in enumerate(settings.splits):
        manifest = _write(settings, out / name, parts, decision, number, watch)
        here_N = decision.split_N == number
        report.splits[name] = {
            "rows": manifest.rows,
            "augmented": int(decision.copies_N[here_N].sum()),
            "groups": len(np.unique(groups_N[here_N])),
            "labels": {key: label.count for key, label in manifest.labels.items()},
            "hash": manifest.hash,
        }
    report.write(out)
    parts.clear()
    return report


def _fingerprint(settings: Settings) -> str:
    """Of the settings, and of size and time of every file they read."""
    stamps = [source_stamp(source) for source in (*settings.sources, *settings.without)]
    text = json.dumps([__version__, settings.described(), _versions(settings), stamps], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _versions(settings: Settings) -> dict[str, str]:
    libraries = (*_LIBRARIES, "presidio-analyzer") if settings.deidentify else _LIBRARIES
    return {"distmed": __version__, **{name: importlib.metadata.version(name) for name in libraries}}


def _finished(settings: Settings, out: Path, fingerprint: str) -> Report | None:
    """The report of an `out` that is done; None if there is work to do. Raises UserError if `out` is something else."""
    file = next((path for path in (out, *out.parents) if path.is_file()), None)
    if file is not None:
        raise UserError(f"{file} is a file", "name a folder for --out")
    report = Report.read(out)
    if report is None:
        if out.exists() and not (out / WORK).is_dir() and any(out.iterdir()):
            raise UserError(f"{out} holds something else", "name a new or empty folder for --out")
        return None
    if report.fingerprint != fingerprint:
        raise UserError(
            f"{out} was prepared from other sources or with other settings",
            "name another folder for --out, or delete it",
        )
    for name in settings.splits:
        Manifest.read(out / name).verify(checksums=False)
    return report


def _clear(out: Path) -> None:
    """Take away what an unfinished run with other settings wrote there: its splits may have other names, and raw texts."""
    for folder in [out, *(path for path in out.iterdir() if path.is_dir() and path.name != WORK)]:
        for left in [*folder.glob("[0-9]*.parquet"), folder / MANIFEST, folder / OVERLAPS]:
            left.unlink(missing_ok=True)
        if folder != out and not any(folder.iterdir()):
            folder.rmdir()


def _evaluation(settings: Settings, parts: Parts, watch: Watch) -> Path | None:
    """The folder with the hashes of the evaluation sets."""
    if not settings.without:
        return None
    folder = parts.folder / "evaluation"
    if not is_built(folder):
        with watch.phase("reading the evaluation sets") as advanced:
            readers = [evaluation_set(source) for source in settings.without]
            sets = [(reader.settings.sources[0].source, _told(iter(reader), advanced)) for reader in readers]
            bare = build([(name, _cleaned(cases)) for name, cases in sets] if settings.clean else sets, folder)
        for reader, uncompared in zip(readers, bare, strict=True):
            left_out = (
                reader.dropped + reader.unclean + Counter({f"no text, and under {MIN_FINDINGS} findings": uncompared})
            )
            for rule, count in sorted(left_out.items()):
                watch.line(f"{reader.settings.sources[0].source}: {count} of {reader.rows} rows not compared: {rule}")
    return folder


def _cleaned(cases: Iterator[Placed]) -> Iterator[Placed]:
    """As the cases that they are compared with."""
    return (replace(placed, case=texts_mapped(placed.case, cleaned)) for placed in cases)


def _told(cases: Iterator[T], advanced: Callable[[int], None]) -> Iterator[T]:
    for case in cases:
        yield case
        advanced(1)


def _read(settings: Settings, parts: Parts, evaluation: Path | None, processes: int, watch: Watch) -> None:
    if parts.reading() is not None:
        return
    reader = Reader(settings)
    with watch.phase("reading the sources") as advanced:
        count = make_parts(reader, parts, settings, evaluation, processes, advanced)
    with watch.phase("taking the checksums of the sources"):
        contents = [source_content(source) for source in settings.sources]
    parts.finish_reading(
        {
            "parts": count,
            "rows": reader.rows,
            "dropped": reader.dropped,
            "unclean": reader.unclean,
            "contents": contents,
        }
    )


def _report(settings: Settings, parts: Parts, decision: Decision, fingerprint: str) -> Report:
    reading = parts.reading()
    assert reading is not None
    unclean, identifiers = Counter(reading["unclean"]), Counter[str]()
    for number in parts.numbers():
        stats = parts.stats(number)
        unclean.update(stats["dropped"])
        identifiers.update(stats["identifiers"])
    dropped = {"read": reading["dropped"], "clean": unclean, **decision.dropped}
    return Report(
        fingerprint=fingerprint,
        settings=settings.described(),
        versions=_versions(settings),
        rows=reading["rows"],
        dropped={stage: dict(sorted(rules.items())) for stage, rules in dropped.items() if rules},
        splits={},
        identifiers=dict(sorted(identifiers.items())),
        clusters=decision.clusters,
        conflicts=decision.conflicts,
    )


def _nothing_left(report: Report) -> UserError:
    if not report.rows:
        names = [source["name"] for source in report.settings["sources"]]
        return UserError(f"the sources hold no rows: {one_of(names)}", "name a source with at least one row")
    rules = [f"{stage}: {rule} ({n})" for stage, rules in report.dropped.items() for rule, n in rules.items()]
    return UserError(
        f"no case is left of {report.rows} rows, all were dropped: {one_of(rules)}",
        "turn a stage off, or loosen --where",
    )


def _list_overlaps(report: Report, out: Path, parts: Parts, decision: Decision, evaluation: Evaluation) -> Report:
    path = out / OVERLAPS
    path.touch(0o600)
    with path.open("w", encoding="utf-8") as file:
        for line in overlap_lines(parts, decision, evaluation):
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return replace(report, boilerplate=evaluation.ignored)


def _write(settings: Settings, folder: Path, parts: Parts, decision: Decision, number: int, watch: Watch) -> Manifest:
    if (folder / MANIFEST).is_file():
        manifest = Manifest.read(folder)
        manifest.verify(checksums=False)
        return manifest
    here_N = decision.split_N == number
    total = int(here_N.sum() + decision.copies_N[here_N].sum())
    with watch.phase(f"writing {folder}", total) as advanced:
        described: dict[str, Any] = {**settings.described(), "split": settings.splits[number]}
        reading = parts.reading()
        assert reading is not None
        for source, content in zip(described["sources"], reading["contents"], strict=True):
            source["sha256"] = content
        cases = _told(_cases(settings, parts, decision, number), advanced)
        return write_shards(cases, folder, format=settings.sources[0].format, settings=described)


def _cases(settings: Settings, parts: Parts, decision: Decision, number: int) -> Iterator[Case]:
    """The cases of a split, each followed by its variants."""
    reading = parts.reading()
    assert reading is not None
    places = parts.column("place")
    for row, values in parts.rows(decision.split_N == number):
        case = Case.from_row(values)
        if settings.deidentify:
            first = places[int(decision.group_N[row])].as_py()
            case = replace(case, group=_group_name(reading["contents"], first))
        yield case
        yield from variants(case, int(decision.copies_N[row]), settings.seed)


def _group_name(contents: list[str], first: str) -> str:
    """From the sources and the place of the group's first case in them, never from the patient's identifier: two folders
    have a name in common only where they hold a row in common."""
    return f"group-{hashlib.sha256(json.dumps([contents, first]).encode()).hexdigest()[:16]}"
