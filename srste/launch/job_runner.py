"""One job: an estimator at one number of samples, on every batch, each study leaving its record."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from srste.estimators import Estimator
from srste.launch.job_config import Job, Plain
from srste.launch.progress import reporter
from srste.problem.pretraining import still_falling
from srste.problem.problem import Problem
from srste.problem.task import Batch
from srste.sampling.base import failure
from srste.store import provenance, records
from srste.store.files import sealed, slug, unsealed, write_atomically
from srste.store.pretrained import Pretrained, pretrained
from srste.store.records import Baseline, DamagedRecordError, Record
from srste.study.study import run_study

log = logging.getLogger(__name__)

PRETRAINING, SHARED = "pretraining", "shared"


@dataclass(frozen=True)
class Folders:
    """job: of this job's output. root: of the whole launch; the job's own where there is one job."""

    job: Path
    root: Path

    def study(self, identity: Plain, key: str) -> Path:
        """Where a study's record lies. One that ignores `samples` serves several jobs: it is shared."""
        batch = f"batch-{identity['batch']:02d}"
        if identity["samples"] is None:
            return self.root / SHARED / f"{slug(identity['estimator']['name'])}-{batch}-{key[:12]}"
        return self.job / "studies" / batch


def note_path(root: Path, key: str) -> Path:
    """Where the note of a pretraining lies."""
    return root / PRETRAINING / f"{key[:12]}.json"


def read_note(root: Path, key: str) -> dict[str, Any] | None:
    """The note of a pretraining: key, identity, config, losses, ...; None if there is none that is
    sound."""
    try:
        note = unsealed(note_path(root, key).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return note if note.get("key") == key else None


def group_of(identity: Plain) -> str:
    """The key of what a study shares with those of the same estimator, samples and problem on other
    batches."""
    return provenance.key_of({name: value for name, value in identity.items() if name != "batch"})


def run_job(job: Job, folders: Folders) -> tuple[list[Record], list[Path]]:
    """Runs the job's studies that have no record yet. Returns: the records of all, and the folders of
    those that it made."""
    # One thread: the arithmetic is small, and its result must not depend on the number of cores.
    torch.set_num_threads(1)
    with threadpool_limits(1), _no_problem_kept_of_a_failure():
        studies = _Studies(job, folders)
        studies.note_pretraining()
        done: dict[Path, Record] = {}
        for batch in range(1, job.batches + 1):
            beside = None
            if job.baseline_config is not None:
                path, beside = studies.get(batch, job.baseline_config, job.baseline, None)
                done[path] = beside
            path, record = studies.get(batch, job.config["estimator"], job.estimator, beside)
            done[path] = record
    return list(done.values()), studies.made


@contextmanager
def _no_problem_kept_of_a_failure() -> Iterator[None]:
    """What a job that fails may have left in the middle of a change serves no other."""
    try:
        yield
    except BaseException:
        _kept.clear()
        raise


class _Studies:
    """The job's studies, each from its record or run now; the problem is made when first needed."""

    def __init__(self, job: Job, folders: Folders) -> None:
        self.job = job
        self.folders = folders
        self.made: list[Path] = []

    def note_pretraining(self) -> None:
        """Makes the pretraining's note if there is none that is sound, from the cache if it can be."""
        if self.job.pretraining.steps:
            key = provenance.key_of(self.job.pretraining_identity())
            if read_note(self.folders.root, key) is None:
                _ = self._problem

    def get(
        self, batch: int, config: Plain, estimator: Estimator, beside: Record | None
    ) -> tuple[Path, Record]:
        identity = self.job.study_identity(batch, config, estimator.stochastic)
        key = provenance.key_of(identity)
        folder = self.folders.study(identity, key)
        record = self._existing(folder, key)
        reused = record is not None
        if record is None:
            record, table = self._run(key, identity, config, estimator, beside)
            if records.write(folder, record, table):
                self.made.append(folder)
        reporter().study_done(key, reused)
        return folder, record

    def _existing(self, folder: Path, key: str) -> Record | None:
        try:
            record = records.read(folder)
        except DamagedRecordError as error:
            log.warning("The record in %s is damaged (%s); set aside, running it again", folder, error)
            with suppress(FileNotFoundError):  # another process was faster
                records.set_record_aside(folder)
            return None
        # One of other settings or code is none; the launch has said so.
        return record if record is not None and record.key == key else None

    def _run(
        self,
        key: str,
        identity: Plain,
        config: Plain,
        estimator: Estimator,
        beside: Record | None,
    ) -> tuple[Record, bytes]:
        problem = self._problem
        started = time.perf_counter()
        batch, samples = problem.batch(identity["batch"]), identity["samples"]
        study = run_study(
            problem, batch, estimator, samples or 1, self.job.sampling, config["name"],
            heldout=self._heldout,
            baseline=self.job.baseline if beside else None,
            progress=reporter().evaluating,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        trials = study.trials
        failed = trials.failed
        table = records.encode_trials(trials)
        record = Record(
            key=key,
            group=group_of(identity),
            identity=identity,
            pre_loss=trials.pre_loss,
            trials=len(trials),
            failed=int(failed.sum()),
            reason=failure(float(trials.post_loss[failed][0])) if failed.any() else None,
            best=study.best,
            baseline=_baseline(beside) if beside else None,
            heldout=study.heldout,
            zero_loss=study.zero_loss,
            probe=study.probe,
            angles=study.angles,
            certificate=study.certificate,
            not_exact=study.not_exact,
            alarm_details=study.alarms,
            seconds=seconds,
            created=_now(),
            config=self.job.config | {"estimator": config, "samples": samples},
            git_commit=provenance.git_commit(),
            versions=provenance.versions(),
            table=records.checksum(table),
        )
        if record.failed:
            log.warning(
                "%s: %d of %d trials failed: %s",
                record.name,
                record.failed,
                record.trials,
                record.reason,
            )
        return record, table

    @cached_property
    def _heldout(self) -> Batch | None:
        size = self.job.config["heldout"]
        return self._problem.heldout(size) if size else None

    @cached_property
    def _problem(self) -> Problem:
        problem, done = _made(self.job)
        if done.losses:
            note = {
                "key": done.key,
                "identity": self.job.pretraining_identity(),
                "config": self.job.config,
                "losses": done.losses,
                "still_falling": still_falling(done.losses),
                "created": _now(),
                "git_commit": provenance.git_commit(),
                "versions": provenance.versions(),
            }
            path = note_path(self.folders.root, done.key)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, sealed(note))
        return problem


_kept: dict[str, tuple[Problem, Pretrained]] = {}
"""The problem of the last job of this process, which the next one mostly shares."""


def _made(job: Job) -> tuple[Problem, Pretrained]:
    """The job's problem, pretrained."""
    key = provenance.key_of(job.pretraining_identity())
    whole = f"{key} {job.config['batch_size']} {job.config['device']}"
    if whole not in _kept:
        _kept.clear()
        problem = job.problem()
        done = pretrained(problem, job.pretraining, key, job.cache, reporter().pretraining)
        _kept[whole] = problem, done
    return _kept[whole]


def _baseline(beside: Record) -> Baseline:
    best = beside.best
    return Baseline(
        key=beside.key,
        estimator=beside.estimator,
        lr=best.lr if best else None,
        post_loss=best.post_loss if best else None,
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
