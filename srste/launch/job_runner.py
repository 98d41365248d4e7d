"""One job: an estimator at one number of samples, on every batch; each study leaves a record."""

import logging
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from srste.estimators import Estimator
from srste.launch.job_config import Job
from srste.launch.progress import reporter
from srste.launch.validation import Plain
from srste.problem.pretraining import still_falling
from srste.problem.problem import Problem
from srste.problem.task import Batch
from srste.sampling.base import failure
from srste.store import provenance, records
from srste.store.files import checksum, sealed, slug, write_atomically
from srste.store.pretrained import Pretrained, pretrained
from srste.store.pretraining_file import pretraining_path, read_pretraining
from srste.store.records import Baseline, DamagedRecordError, Record
from srste.store.trial_tables import packed
from srste.study.study import run_study

log = logging.getLogger(__name__)

SHARED = "shared"


@dataclass(frozen=True)
class Folders:
    """job: the output folder of this job. root: of the launch; the same where there is one job."""

    job: Path
    root: Path

    def study(self, identity: Plain, key: str) -> Path:
        """Return the folder of a study's record; jobs share studies that ignore `samples`."""
        batch = f"batch-{identity['batch']:02d}"
        if identity["samples"] is None:
            return self.root / SHARED / f"{slug(identity['estimator']['name'])}-{batch}-{key[:12]}"
        return self.job / "studies" / batch


def group_of(identity: Plain) -> str:
    """Return the key of a study's identity without its batch."""
    return provenance.key_of({name: value for name, value in identity.items() if name != "batch"})


def run_job(job: Job, folders: Folders) -> tuple[list[Record], list[Path]]:
    """Run the job's studies that have no record yet. Returns: the records of all, and the folders
    of the new ones."""
    # One thread: the arithmetic is small, and its result must not depend on the number of cores.
    torch.set_num_threads(1)
    with threadpool_limits(1):
        try:
            studies = _Studies(job, folders)
            studies.require_pretraining()
            records_by_folder: dict[Path, Record] = {}
            for batch in range(1, job.batches + 1):
                record: Record | None = None
                for config, estimator in job.estimators:  # the baseline first
                    folder, record = studies.get(batch, config, estimator, baseline=record)
                    records_by_folder[folder] = record
        except BaseException:
            _problems.clear()  # it may have failed in the middle of a change
            raise
    return list(records_by_folder.values()), studies.new


class _Studies:
    """The job's studies, each read from its record or run; the problem is made when first needed.

    new: folders of the records that were written.
    """

    def __init__(self, job: Job, folders: Folders) -> None:
        self.job = job
        self.folders = folders
        self.new: list[Path] = []

    def require_pretraining(self) -> None:
        """Write the pretraining's file if it is missing or damaged."""
        if self.job.pretraining.steps:
            key = provenance.key_of(self.job.pretraining_identity())
            if read_pretraining(self.folders.root, key) is None:
                _ = self._problem

    def get(
        self, batch: int, config: Plain, estimator: Estimator, baseline: Record | None
    ) -> tuple[Path, Record]:
        """Return the folder and the record of one study. baseline: the record of its baseline."""
        identity = self.job.study_identity(batch, config, estimator.stochastic)
        key = provenance.key_of(identity)
        folder = self.folders.study(identity, key)
        record = self._existing(folder, key)
        reused = record is not None
        if record is None:
            record, table = self._run(key, identity, config, estimator, baseline)
            if records.write(folder, record, table):
                self.new.append(folder)
        reporter().study_done(key, reused)
        return folder, record

    def _existing(self, folder: Path, key: str) -> Record | None:
        try:
            record = records.read(folder)
        except DamagedRecordError as error:
            log.warning("The record in %s is damaged (%s); set aside, running it again", folder, error)
            records.set_record_aside(folder)
            return None
        # The launch has already said which records are of other settings or code.
        return record if record is not None and record.key == key else None

    def _run(
        self,
        key: str,
        identity: Plain,
        config: Plain,
        estimator: Estimator,
        baseline: Record | None,
    ) -> tuple[Record, bytes]:
        problem = self._problem
        started = time.perf_counter()
        batch, samples = problem.batch(identity["batch"]), identity["samples"]
        study = run_study(
            problem, batch, estimator, samples or 1, self.job.sampling, config["name"],
            heldout=self._heldout,
            baseline=self.job.baseline if baseline else None,
            progress=reporter().evaluating,
            evaluation=self.job.evaluation,
            diagnosed=self.job.diagnosed(config),
        )  # fmt: skip
        seconds = time.perf_counter() - started
        trials = study.trials
        failed = trials.failed
        table = packed(trials)
        record = Record(
            key=key,
            group=group_of(identity),
            identity=identity,
            pre_loss=trials.pre_loss,
            trials=len(trials),
            failed=int(failed.sum()),
            reason=failure(float(trials.post_loss[failed][0])) if failed.any() else None,
            best=study.best,
            baseline=_summary(baseline) if baseline else None,
            heldout=study.heldout,
            zero_loss=study.zero_loss,
            probe=study.probe,
            angles=study.angles,
            certificate=study.certificate,
            not_exact=study.not_exact,
            alarm_details=study.alarms,
            forward_passes=study.cost and study.cost.forward,
            backward_passes=study.cost and study.cost.backward,
            drawn=study.drawn,
            diagnosis=study.diagnosis,
            seconds=seconds,
            config=self.job.config | {"estimator": config, "samples": samples},
            table=checksum(table),
            **_circumstances(),
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
        problem, weights = _pretrained_problem(self.job)
        if weights.losses:
            pretraining = {
                "key": weights.key,
                "identity": self.job.pretraining_identity(),
                "config": self.job.config,
                "losses": weights.losses,
                "still_falling": still_falling(weights.losses),
                **_circumstances(),
            }
            path = pretraining_path(self.folders.root, weights.key)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, sealed(pretraining))
        return problem


_problems: dict[str, tuple[Problem, Pretrained]] = {}
"""The problem of the last job of this process, which the next job mostly shares."""


def forget_problem() -> None:
    """Free the memory of the last job's problem."""
    _problems.clear()


def _pretrained_problem(job: Job) -> tuple[Problem, Pretrained]:
    pretraining_key = provenance.key_of(job.pretraining_identity())
    key = f"{pretraining_key} {job.config['batch_size']} {job.config['device']}"
    if key not in _problems:
        _problems.clear()
        problem = job.problem()
        progress = reporter().pretraining
        _problems[key] = (
            problem, pretrained(problem, job.pretraining, pretraining_key, job.cache, progress)
        )  # fmt: skip
    return _problems[key]


def _summary(baseline: Record) -> Baseline:
    best = baseline.best
    return Baseline(
        key=baseline.key,
        estimator=baseline.estimator,
        lr=best.lr if best else None,
        post_loss=best.post_loss if best else None,
    )


def _circumstances() -> dict[str, Any]:
    """Return when and by which code something is computed, as records and pretrainings hold it."""
    return {
        "created": provenance.now(),
        "git_commit": provenance.git_commit(),
        "versions": provenance.versions(),
    }
