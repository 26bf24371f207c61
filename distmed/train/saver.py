"""Saving and restoring a run through Ray Train: the loop stands still for one copy in host memory, the upload runs beside it
(of state on NVMe, which would change under it, there is no copy: the loop waits for the upload).

A run state and an engine flow in; a folder named by step, world size and attempt flows out, complete when every rank's marker
is there. The newest complete folder is found in the storage itself, never by what Ray remembers.
"""

from __future__ import annotations

import errno
import socket
import time
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, NamedTuple

import ray
import ray.train
import torch.distributed as dist

from distmed.checkpoint import folder as folders
from distmed.checkpoint.load import load_newest
from distmed.checkpoint.publish import ASKED, how_asked
from distmed.checkpoint.save import HostMemory, Snapshot, snapshot
from distmed.checkpoint.storage import StorageError, pause_s
from distmed.errors import UserError
from distmed.model.lora import scale
from distmed.train.job import Job
from distmed.train.resume import Saved, check_same_model, check_same_scale
from distmed.train.state import Best, RunState, eval_cases

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

    from distmed.stream.stream import Stream


# Trying again would not help, and a person should know at once.
HOPELESS = {errno.EROFS, errno.EACCES, errno.EPERM}
LOOK_S = 0.2
# A storage that answers with nothing at all has at least this long.
LEAST_PATIENCE_S = 60.0
# The driver ends workers of which it hears nothing; while the loop waits for the storage it is told this often.
SAY_EVERY_S = 60.0
# Snapshots that may wait in host memory, the one that is being written counted.
WAITING = 2


class Upload(NamedTuple):
    """A snapshot on its way to the storage, and its end."""

    taken: Snapshot
    ended: Future[None]


class Saver:
    """Writes checkpoints of one attempt. `failed` is set when an upload met something that only the user can mend.

    `best`: the best evaluation before it. `bests`: the steps of the last best checkpoint that is whole and of better ones.
    `moved`: when an upload last came to its end, by time.monotonic.
    """

    def __init__(self, job: Job, engine: DeepSpeedEngine, attempt: int, logbook: Any, best: Best | None) -> None:
        self.job = job
        self.engine = engine
        self.attempt = attempt
        self.logbook = logbook
        self.failed: UserError | None = None
        self.hangs = False
        self.last_step = -1
        self.uploads: list[Upload] = []
        self.bests = [best.step] if best else []
        self.moved = time.monotonic()
        self.known = {"model": describe_model(job, engine), "cases": job.cases()}
        self.memory = HostMemory()

    def save(self, state: RunState, stream: Stream, *, needed: bool) -> float:
        """Take a snapshot and start its upload, or end it where it reads the engine; the seconds for which the loop stood
        still. All ranks call it.

        Where the storage is so slow that earlier ones still wait, a checkpoint that is not `needed` is left out, and that
        is said: their copies would fill the host's memory.
        """
        if state.step == self.last_step:
            return 0.0
        started = time.perf_counter()
        began = said = time.monotonic()
        while self._behind() and not self.hangs:
            if not needed:
                text = (
                    f"the checkpoint of step {state.step} is left out: the storage still takes the {WAITING} before it"
                )
                self.logbook.storage_fails.remote(state.step, text)
                return time.perf_counter() - started
            if dist.get_rank() == 0 and time.monotonic() - said > self._say_every_s():
                said = time.monotonic()
                waited = f"has waited for {said - began:.0f} s"
                text = f"the checkpoint of step {state.step} {waited}: the storage still takes the {WAITING} before it"
                self.logbook.note.remote(text)
            time.sleep(LOOK_S)
        if self.hangs:
            return time.perf_counter() - started
        self.last_step = state.step
        content = {"run": state.to_dict(), "stream": stream.state(state.k), **self.known}
        fresh = self.job.recipe.model.init == "random"
        taken = snapshot(self.engine, content, store_frozen=fresh, memory=self.memory)
        name = folders.name(state.step, dist.get_world_size(), self.attempt)
        best = state.best.step if state.best else None
        upload = Upload(taken, Future())
        step, folder = state.step, f"{self.job.checkpoints}/{name}"

        def write(checkpoint: Any, _: str) -> Any:
            # Not by the client of Ray's checkpoint: for s3:// that keeps a further copy of all it was given in memory.
            self._upload(upload, folder, step, best)
            return checkpoint

        modes = ray.train.CheckpointUploadMode
        self.uploads.append(upload)
        ray.train.report(
            {"step": state.step},
            checkpoint=ray.train.Checkpoint(folder),
            checkpoint_dir_name=name,
            checkpoint_upload_mode=modes.SYNC if taken.reads_engine else modes.ASYNC,
            # Ray would take the "local copy" away after the upload, which is the checkpoint itself.
            delete_local_checkpoint_after_upload=False,
            checkpoint_upload_fn=write,
        )
        return time.perf_counter() - started

    def _behind(self) -> bool:
        """Whether on any rank so many snapshots wait to be written, or one that `hangs`; all ranks hear the same."""
        self.uploads = [each for each in self.uploads if not each.ended.done()]
        found: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(found, (len(self.uploads), self._hung()))
        if any(hung for _, hung in found):
            self._give_up()
        return max(waiting for waiting, _ in found) >= WAITING

    def _hung(self) -> bool:
        """Whether the storage neither took anything of the oldest snapshot nor refused it, for so long: a server is gone."""
        oldest = next((each.taken for each in self.uploads if not each.ended.done()), None)
        # It was taken long before its turn came, where those before it were slow.
        return oldest is not None and time.monotonic() - max(oldest.progressed, self.moved) > self._patience_s()

    def _patience_s(self) -> float:
        return max(self.job.recipe.checkpoint.retry_s, LEAST_PATIENCE_S)

    def _say_every_s(self) -> float:
        return min(SAY_EVERY_S, self.job.recipe.cluster.stall_timeout_s / 2)

    def _give_up(self) -> None:
        self.hangs = True
        self.failed = self.failed or StorageError(
            f"{self.job.checkpoints} has taken nothing for {self._patience_s():g} s and does not say why",
            "older checkpoints are untouched; mend the storage, then --resume",
        )

    def _upload(self, upload: Upload, folder: str, step: int, best: int | None) -> None:
        try:
            self._write(upload.taken, folder, step)
            self.memory.take_back(upload.taken.copies)
            self.logbook.saved.remote(step, dist.get_world_size())
            if dist.get_rank() == 0:
                self._prune(step, best)
        except UserError as error:
            # What is met later, such as folders that come and go on a full disk, follows from the first.
            self.failed = self.failed or error
        finally:
            self.moved = time.monotonic()
            upload.ended.set_result(None)

    def _prune(self, step: int, best: int | None) -> None:
        """Old checkpoints that cannot be taken away now go with the next ones."""
        try:
            self._replace_best(best)
            protect = [folders.name_prefix(each) for each in self.bests]
            folders.prune(self.job.checkpoints, keep=self.job.recipe.checkpoint.keep, protect=protect)
        except Exception as error:  # every store behind fsspec has errors of its own
            self.logbook.storage_fails.remote(step, f"old checkpoints stay for now: {type(error).__name__}: {error}")

    def _replace_best(self, best: int | None) -> None:
        """Other ranks may still write the new best: should one of them die, the run goes on from where an earlier one is
        the best."""
        if best is not None and best not in self.bests:
            self.bests.append(best)
        for place in range(len(self.bests) - 1, 0, -1):
            if folders.at_step(self.job.checkpoints, self.bests[place]):
                self.bests = self.bests[place:]
                return

    def _write(self, taken: Snapshot, folder: str, step: int) -> None:
        """Write, and where the storage fails try again: the training goes on meanwhile. Raises UserError in the end."""
        # Where one was given up, the last one of the run has its one chance.
        limit_s = 0.0 if self.failed else self.job.recipe.checkpoint.retry_s
        began = time.monotonic()
        while True:
            try:
                taken.write(folder)
                return
            except UserError:
                raise
            except Exception as error:  # every store behind fsspec has errors of its own
                taken.progressed = time.monotonic()
                what = f"{type(error).__name__} at {self.job.checkpoints}"
                if isinstance(error, OSError) and error.strerror:
                    what = f"{error.strerror}: {self.job.checkpoints}"
                hopeless = isinstance(error, OSError) and error.errno in HOPELESS
                if hopeless or not limit_s or time.monotonic() - began > limit_s:
                    waited = "" if hopeless else f" for {limit_s:g} s (checkpoint.retry_s)"
                    raise StorageError(
                        f"the checkpoint of step {step} cannot be written{waited}: {what}",
                        "older checkpoints are untouched; mend the storage, then --resume",
                    ) from error
                text = f"the checkpoint of step {step} cannot be written ({what}): tried again for {limit_s:g} s"
                self.logbook.storage_fails.remote(step, text)
                time.sleep(pause_s(limit_s))

    def finish(self) -> None:
        """Wait for the uploads of this worker, and raise what one of them met."""
        while wait([each.ended for each in self.uploads], timeout=LOOK_S).not_done and not self.hangs:
            if self._hung():
                self._give_up()
        if self.failed:
            raise self.failed


def restore(job: Job, engine: DeepSpeedEngine, stream: Stream, logbook: Any) -> tuple[RunState, list[str]]:
    """Load the newest whole checkpoint of the run, and where it stood; a fresh state if there is none.

    Raises UserError where the checkpoint was made with another model, tokenizer or data, or is not seen from here.
    """
    # The recipe at hand decides, not the one that the checkpoint was made with: it may have been changed for the resume.
    settings = [
        {key: value for key, value in group.items() if key != "params"} for group in engine.optimizer.param_groups
    ]
    began = time.perf_counter()
    retry_s = job.recipe.checkpoint.retry_s
    loaded = load_newest(engine, job.checkpoints, retry_s=retry_s, tell=logbook.note.remote)
    if loaded is None:
        left = folders.names(job.checkpoints)
        if not left and (elsewhere := ray.get(logbook.checkpoints.remote())):
            raise StorageError(
                f"{socket.gethostname()} sees no checkpoint in {job.checkpoints}, where the driver's host sees {elsewhere}",
                "mount the same storage on all hosts; then --resume",
            )
        return RunState(), [f"none of {len(left)} checkpoints is whole: starts from the beginning"] if left else []
    for group, setting in zip(engine.optimizer.param_groups, settings, strict=True):
        group.update(setting)
    saved = Saved(loaded.folder, loaded.state)
    check_same_model(saved, job.model_folder, job.model_hash, str(job.train_plan.identity["tokenizer"]))
    check_same_scale(saved, job.recipe.model.lora)
    stream.check(loaded.state["stream"])
    state = RunState.from_dict(loaded.state["run"])
    notes = [*loaded.notes, f"the checkpoint of step {state.step} was loaded in {time.perf_counter() - began:.1f} s"]
    other_judge = state.judge_by(job.recipe.checkpoint.best, eval_cases(job))
    return state, [*notes, other_judge] if other_judge else notes


def describe_model(job: Job, engine: DeepSpeedEngine) -> dict[str, Any]:
    """What an export needs to know beside the weights."""
    network, lora = engine.module.network, job.recipe.model.lora
    return {
        "hash": job.model_hash,
        "folder": str(job.model_folder),
        "dtype": "bf16" if job.bf16 else "float32",
        "config": {**network.config.to_dict(), "architectures": [type(network).__name__]},
        "lora": lora.model_dump(mode="json") if lora else None,
        "lora_scale": scale(lora) if lora else None,
        ASKED: how_asked(job.recipe),
    }
