"""Records: what a study leaves on disk, for resuming, tracking and reports.

A record is a folder with `record.json` and `trials.packed.parquet` (all trials, see
`srste.store.trial_tables`) that is either complete or absent. The JSON holds its own checksum, the
table's, and the key of all that determines the result. Nothing in it is executed: JSON and Parquet are
data.
"""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna

from srste.curve.minima import Interval
from srste.errors import UserError
from srste.sampling import Trials
from srste.store import files
from srste.store.trial_tables import unpacked
from srste.study.certificate import Certificate
from srste.study.results import Best, Diagnosis, DrawnLoss, Heldout, LayerGradient, Probe

FORMAT = 7
RECORD, TRIALS = "record.json", "trials.packed.parquet"
FILES = frozenset({RECORD, TRIALS})
"""The names of a record's files."""
_FORMER = frozenset({"trials.parquet"})
"""Of records of earlier formats, which are set aside."""


class DamagedRecordError(ValueError):
    """The files of a record are not those that were written; the message says why."""


@dataclass(frozen=True)
class Baseline:
    """The study of the baseline estimator on the same batch. lr, post_loss: of its best trial, None
    if it has none."""

    key: str
    estimator: str
    lr: float | None
    post_loss: float | None


@dataclass(frozen=True)
class Record:
    """One study's result.

    key: of all that determines it. group: likewise, without the batch. identity: its configuration
    (seed, model, data, pretraining, batch_size, batch, sampling, estimator, samples, device);
    samples is None where the estimator draws nothing. trials, failed: how many; reason: why the
    first one failed. best, heldout, zero_loss, probe, certificate, not_exact: see
    :class:`srste.study.study.Study`. angles: likewise; None for a tensor that does not move.
    alarm_details: the study's alarms. forward_passes, backward_passes: what the direction costs, through
    the whole network; None where its estimator does not say. drawn: the loss with drawn units,
    diagnosis: of the gradient, if they were asked for. seconds: what the study took. created:
    UTC, ISO 8601. config: the resolved configuration of the job that made it. git_commit, versions: of
    the code. table: checksum of `trials.packed.parquet`.
    """

    key: str
    group: str
    identity: dict[str, Any]
    pre_loss: float
    trials: int
    failed: int
    reason: str | None
    best: Best | None
    baseline: Baseline | None
    heldout: Heldout | None
    zero_loss: float
    probe: Probe | None
    angles: dict[str, float | None]
    certificate: Certificate | None
    not_exact: str
    alarm_details: dict[str, str]
    forward_passes: int | None
    backward_passes: int | None
    seconds: float
    created: str
    config: dict[str, Any]
    git_commit: str
    versions: dict[str, str]
    table: str
    drawn: DrawnLoss | None = None
    diagnosis: Diagnosis | None = None
    format: int = FORMAT

    @property
    def estimator(self) -> str:
        return str(self.identity["estimator"]["name"])

    @property
    def is_control(self) -> bool:
        """Whether the estimator is a control, there to be compared with."""
        return bool(self.identity["estimator"].get("control"))

    @property
    def samples(self) -> int | None:
        samples: int | None = self.identity["samples"]
        return samples

    @property
    def batch(self) -> int:
        return int(self.identity["batch"])

    @property
    def name(self) -> str:
        """For example "sr_ste N=3 batch 2"."""
        samples = "" if self.samples is None else f" N={self.samples}"
        return f"{self.estimator}{samples} batch {self.batch}"

    @property
    def alarms(self) -> list[str]:
        """Every alarm: its kind and its detail."""
        return [f"{kind}: {detail}" for kind, detail in self.alarm_details.items()]

    @property
    def passes(self) -> int | None:
        """Forward and backward passes of the direction together."""
        if self.forward_passes is None or self.backward_passes is None:
            return None
        return self.forward_passes + self.backward_passes

    @property
    def decrease(self) -> float | None:
        """How much the best step lowers the loss."""
        return self.pre_loss - self.best.post_loss if self.best else None

    @property
    def gain(self) -> float | None:
        """How much lower the loss after the best step is than the baseline's on the same batch."""
        if self.best is None or self.baseline is None or self.baseline.post_loss is None:
            return None
        return self.baseline.post_loss - self.best.post_loss

    @property
    def angle(self) -> float | None:
        """The angle to the baseline's direction, of all parameters together, in degrees."""
        return self.angles.get("")

    @property
    def common(self) -> dict[str, Any]:
        """The identity without estimator, samples and batch."""
        varying = ("estimator", "beside", "samples", "batch")
        return {key: value for key, value in self.identity.items() if key not in varying}


StoredRecord = tuple[Path, Record]
"""A record and the folder that it is stored in, the folder first."""
RecordIndex = Mapping[str, StoredRecord]
"""Stored records by key."""


def _certificate(**plain: Any) -> Certificate:
    spans = {n: Interval(**plain[n]) if plain[n] else None for n in ("first", "smallest", "largest")}
    return Certificate(**plain | spans)


def _diagnosis(**plain: Any) -> Diagnosis:
    return Diagnosis(**plain | {"layers": [LayerGradient(**layer) for layer in plain["layers"]]})


_PARTS: dict[str, Callable[..., Any]] = {
    "best": Best,
    "baseline": Baseline,
    "heldout": Heldout,
    "probe": Probe,
    "certificate": _certificate,
    "drawn": DrawnLoss,
    "diagnosis": _diagnosis,
}


def write(folder: Path, record: Record, table: bytes) -> bool:
    """Write a record into ``folder``, atomically.

    Of several processes that write the same record one succeeds. An existing record that is damaged
    or of another key is set aside. Returns: whether this call wrote it. Raises: OSError where the
    folder holds anything but a record.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = files.temporary_beside(folder)
    files.remove_folder(temporary, FILES)
    try:
        temporary.mkdir()
        files.write_through(temporary / TRIALS, table)
        files.write_through(temporary / RECORD, files.sealed(asdict(record)))
        while True:
            try:
                temporary.rename(folder)
                return True
            except OSError:
                if not folder.is_dir():
                    raise
            stored = _sound(folder)
            if stored is not None and stored.key == record.key:
                return False
            set_record_aside(folder)
    finally:
        files.remove_folder(temporary, FILES)


def set_record_aside(folder: Path) -> None:
    """Move a record, damaged or not, into ``.set-aside`` beside it, under a unique name,
    unless another process has been faster. Raises: OSError where the folder holds anything else."""
    if foreign := foreign_in(folder):
        raise FileExistsError(f"{folder} holds {foreign[0]}, which is not srste's: move it elsewhere")
    target = folder.parent / ".set-aside" / f"{folder.name}-{uuid.uuid4().hex[:8]}"
    target.parent.mkdir(exist_ok=True)
    with suppress(FileNotFoundError):
        folder.rename(target)


def foreign_in(folder: Path) -> list[str]:
    """Return the names in ``folder`` that are not a record's, if it is there; of a file its own."""
    try:
        return sorted({path.name for path in folder.iterdir()} - FILES - _FORMER)
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        return [folder.name]


def read(folder: Path) -> Record | None:
    """Return the record in ``folder``; None if there is none. Raises: DamagedRecordError."""
    try:
        plain = files.unsealed((folder / RECORD).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DamagedRecordError(f"{RECORD} {error}") from error
    if plain.get("format") != FORMAT:
        raise DamagedRecordError(f"{RECORD} has format {plain.get('format')}, not {FORMAT}")
    try:
        parts = {n: part(**plain[n]) if plain.get(n) else None for n, part in _PARTS.items()}
        record = Record(**plain | parts)
    except (KeyError, TypeError) as error:
        raise DamagedRecordError(f"{RECORD} does not hold what it should ({error})") from error
    try:
        table = (folder / TRIALS).read_bytes()
    except FileNotFoundError as error:
        raise DamagedRecordError(f"{TRIALS} is missing") from error
    if files.checksum(table) != record.table:
        raise DamagedRecordError(f"{TRIALS} is not the table that {RECORD} was written for")
    return record


def _sound(folder: Path, damaged: list[Path] | None = None) -> Record | None:
    """Return the record in ``folder``; None if there is none or, adding the folder to ``damaged``,
    if it is damaged."""
    try:
        return read(folder)
    except DamagedRecordError:
        if damaged is not None:
            damaged.append(folder)
        return None


def stored_keys(root: Path, studies: Mapping[str, str]) -> set[str]:
    """Return the keys of the studies that have a record, quickly: nothing is verified. studies:
    folders below ``root`` by key."""
    keys = set()
    for key, folder in studies.items():
        with suppress(OSError, ValueError, KeyError, TypeError):
            if json.loads((root / folder / RECORD).read_bytes())["key"] == key:
                keys.add(key)
    return keys


def read_trials(folder: Path) -> Trials:
    """Return all trials of the record in ``folder``."""
    return unpacked((folder / TRIALS).read_bytes())


def load_study(folder: str | Path) -> optuna.Study:
    """Return the Optuna study of the record in ``folder``, in memory, with all its trials, its settings
    and results as user attributes.

    Raises: FileNotFoundError without a record; DamagedRecordError.
    """
    from srste.store.optuna_studies import attributes, during  # it reads records, too

    folder = Path(folder)
    record = read(folder)
    if record is None:
        raise FileNotFoundError(f"no {RECORD} in {folder}")
    return read_trials(folder).to_optuna(record.name, attributes(record), during(record))


def find(root: Path, damaged: list[Path] | None = None) -> Iterator[StoredRecord]:
    """Yield every sound record below ``root``, in order of folder. The folders of damaged ones are
    added to ``damaged``."""
    for path in files.find_files(root, RECORD):
        if record := _sound(path.parent, damaged):
            yield path.parent, record


def find_studies(
    root: Path, studies: Mapping[str, str], damaged: list[Path] | None = None
) -> dict[str, StoredRecord]:
    """Return the sound records of those studies by key, in order of folder.

    Args: studies: folders below ``root`` by key. damaged: the folders of damaged records are added.
    """
    stored = {}
    for key, below_root in sorted(studies.items(), key=lambda item: Path(item[1]).parts):
        record = _sound(root / below_root, damaged)
        if record is not None and record.key == key:
            stored[key] = root / below_root, record
    return stored


def no_records(folder: Path) -> UserError:
    """Return the error for a folder that a user named and that has no records at any depth."""
    if not folder.is_dir():
        return UserError(f"{folder}: {'is a file' if folder.exists() else 'there is no such folder'}")
    advice = "name the folder of a launch, such as multirun/..., or one above it"
    return UserError(f"{folder}: holds no records of studies; {advice}")
