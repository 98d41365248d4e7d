"""What Hydra runs: one job, in the launching process or in one of its own anywhere."""

from __future__ import annotations

import logging
from pathlib import Path

import optuna
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from srste.errors import UserError, first_line
from srste.launch.job_config import Job
from srste.launch.job_runner import Folders, run_job
from srste.launch.progress import is_launching, reporter
from srste.note2021.log import NOTE_LOG, write_note_log
from srste.store import records
from srste.store.manifest import JobContents, Launch, read_launch

log = logging.getLogger(__name__)


def job(config: DictConfig) -> None:
    """Runs one job: its records, and, where the store can be reached, their runs in MLflow.

    In the launching process a job that fails does not end the others: why is told to the reporter.
    """
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    root = Path(hydra.sweep.dir).resolve() if hydra.mode == RunMode.MULTIRUN else folder
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if not is_launching():
        _run(config, folder, root)
        return
    try:
        _run(config, folder, root)
    except Exception as error:
        name = folder.relative_to(root).as_posix()
        reporter().job_failed(name, f"{type(error).__name__}: {first_line(error)}")
        if isinstance(error, OSError):  # a full disk, say: where it came from is no help
            log.error("%s", first_line(error))
        else:
            log.exception("The job failed")


def _run(config: DictConfig, folder: Path, root: Path) -> None:
    checked = Job(config)
    done, made = run_job(checked, Folders(folder, root))
    write_note_log(done, folder / NOTE_LOG)
    launch = read_launch(root)
    if launch is not None and made and launch.tracking["name"] != "none":
        _track(launch, made)


def track_finished(root: Path, job: JobContents, known: set[str]) -> None:
    """Logs what a job that ran in a process of its own has left, where that process could not: a store
    that is no server has one writer, the launching process.

    Args: known: keys of the studies that were there before or have been logged; added to.
    """
    launch = read_launch(root)
    if launch is None or launch.tracking["name"] == "none" or launch.on_server:
        return
    wanted = {key: folder for key, folder in job.studies.items() if key not in known}
    known |= wanted.keys()
    made = [folder for folder, _ in records.find_studies(root, wanted).values()]
    if made:
        _track(launch, made)


_given_up: set[str] = set()
"""Launches whose store failed in this process: the rest of their jobs only leave records."""


def _track(launch: Launch, made: list[Path]) -> None:
    """Logs the job's new studies while the sweep goes on. What fails here the launching process makes
    good at the end; it also is the only one to open a store that is no server."""
    if launch.id in _given_up or not (is_launching() or launch.on_server):
        return
    from srste.tracking import StoreError, entries, open_store

    try:
        found = [(path, record) for path in made if (record := records.read(path))]
        store = open_store(launch.tracking, patient=not is_launching())
        store.add(launch, entries(found, [], launch.tracking["granularity"]))
    except (UserError, *StoreError) as error:
        _given_up.add(launch.id)
        log.warning(
            "MLflow: %s. The records are kept, and put there at the end if it answers again",
            first_line(error),
        )
