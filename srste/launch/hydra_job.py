"""The function that Hydra runs: one job, in the launching process or in another one."""

import logging
from pathlib import Path

import optuna
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from srste.errors import UserError, first_line
from srste.launch.job_config import Job
from srste.launch.job_runner import Folders, run_job
from srste.launch.job_values import job_values
from srste.launch.progress import is_launching, reporter
from srste.launch.tracker import tracker
from srste.note2021.log import NOTE_LOG, write_note_log
from srste.store import records
from srste.store.manifest import JobContents, Launch, read_launch

log = logging.getLogger(__name__)


def job(config: DictConfig) -> None:
    """Run one job: write its records, and log them to MLflow if this process can.

    In the launching process a job that fails does not end the others; the reporter gets the reason.
    """
    logging.raiseExceptions = False  # a log on a full disk would print a traceback for each line
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    root = Path(hydra.sweep.dir).resolve() if hydra.mode == RunMode.MULTIRUN else folder
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        _run(config, folder, root)
    except Exception as error:
        if not is_launching():
            raise
        name = folder.relative_to(root).as_posix()
        reporter().failures[name] = f"{type(error).__name__}: {first_line(error)}"
        if isinstance(error, OSError):  # such as a full disk, where a traceback does not help
            log.error("%s", first_line(error))
        else:
            log.exception("The job failed")


def _run(config: DictConfig, folder: Path, root: Path) -> None:
    of_job, new = run_job(Job(job_values(config)), Folders(folder, root))
    write_note_log(of_job, folder / NOTE_LOG)
    launch = read_launch(root)
    if launch is not None:
        _track(launch, new)


def track_finished(root: Path, job: JobContents, tracked: set[str]) -> None:
    """Log the studies of a job that ran in another process, unless the store is a server, to which
    that process has logged them: any other store has one writer, the launch's.

    Args: tracked: keys of the studies that existed before or have been logged; added to.
    """
    launch, writer = read_launch(root), tracker()
    if launch is None or writer is None or launch.on_server:
        return
    new = {key: folder for key, folder in job.studies.items() if key not in tracked}
    tracked |= new.keys()
    writer.add([folder for folder, _ in records.find_studies(root, new).values()])


_failed: set[str] = set()
"""Ids of launches whose store failed in this process: their other jobs only write records."""


def _track(launch: Launch, new: list[Path]) -> None:
    """Log the records in these folders while the sweep goes on. The launch repeats at the end what
    fails, and only its writer opens a store that is no server."""
    if (writer := tracker()) is not None:
        writer.add(new)
        return
    untracked = launch.tracking["name"] == "none" or not launch.on_server
    if not new or untracked or launch.id in _failed:
        return
    from srste.tracking import StoreError, entries, open_store

    try:
        stored = [(path, record) for path in new if (record := records.read(path))]
        store = open_store(launch.tracking, patient=True)
        store.add(launch, entries(stored, [], launch.tracking["granularity"]))
    except (UserError, *StoreError) as error:
        _failed.add(launch.id)
        log.warning(
            "MLflow: %s. The records are kept, and put there at the end if it answers again",
            first_line(error),
        )
