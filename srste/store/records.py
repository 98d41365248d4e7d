"""What a study leaves on disk: the single source for resuming, tracking and reports.

A record is a folder with `record.json` and `trials.parquet` (all trials as columns) that appears whole
or not at all. The JSON holds its own checksum, the table's, and the key of all that determines the
result; a folder that does not agree with them, or of another key, is no record. Nothing in it is ever
executed: JSON and Parquet are data.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq

from srste.curve import Interval
from srste.sampling import Trials
from srste.store.files import (
    below,
    remove_folder,
    sealed,
    set_aside,
    temporary_beside,
    unsealed,
    write_through,
)
from srste.study.certificate import Certificate
from srste.study.heldout import Heldout
from srste.study.results import Best, Probe

FORMAT = 5
RECORD, TRIALS = "record.json", "trials.parquet"
FILES = frozenset({RECORD, TRIALS})
"""What a record's folder holds."""


class DamagedRecordError(ValueError):
    """A record that is there but cannot be trusted; the message says why."""


@dataclass(frozen=True)
class Baseline:
    """The study of the baseline estimator on the same batch. lr, post_loss: of its winner, None if it
    has none."""

    key: str
    estimator: str
    lr: float | None
    post_loss: float | None


@dataclass(frozen=True)
class Record:
    """One study's result.

    key: of all that determines it. group: of all that does but the batch. identity: its configuration
    (seed, model, data, pretraining, batch_size, batch, sampling, estimator, samples, device). samples:
    None where the estimator draws nothing. best: None if every trial failed. failed: how many did;
    reason: the first one's. heldout: the winner on examples that are held out; None if there
    are none. zero_loss: of a student whose output is zero. probe: after a small step. angles: in
    degrees to the baseline's direction, by parameter tensor, and of all together under ""; None for a
    tensor that does not move. certificate: what holds over all learning rates; None where the loss
    curve has no exact form, and not_exact says why.
    alarm_details: of every kind of alarm that rang (see `srste.study.checks`), what was seen. seconds:
    what it took. created: UTC, ISO 8601. config: the whole resolved configuration of the job that made
    it. git_commit, versions: of the code. table: checksum of `trials.parquet`.
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
    seconds: float
    created: str
    config: dict[str, Any]
    git_commit: str
    versions: dict[str, str]
    table: str
    format: int = FORMAT

    @property
    def estimator(self) -> str:
        return str(self.identity["estimator"]["name"])

    @property
    def is_control(self) -> bool:
        """Whether the estimator is there to be compared with."""
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
        """For people: for example "sr_ste N=3 batch 2"."""
        samples = "" if self.samples is None else f" N={self.samples}"
        return f"{self.estimator}{samples} batch {self.batch}"

    @property
    def alarms(self) -> list[str]:
        """For people: every kind of alarm with what was seen."""
        return [f"{kind}: {seen}" for kind, seen in self.alarm_details.items()]

    @property
    def common(self) -> dict[str, Any]:
        """The identity without estimator, samples and batch."""
        own = ("estimator", "beside", "samples", "batch")
        return {key: value for key, value in self.identity.items() if key not in own}

    @property
    def condition(self) -> str:
        """A hash of all but estimator, samples and batch: studies that share it are comparable."""
        return hashlib.sha256(json.dumps(self.common, sort_keys=True).encode()).hexdigest()[:12]


def _certificate(**plain: Any) -> Certificate:
    spans = {n: Interval(**plain[n]) if plain[n] else None for n in ("first", "smallest", "largest")}
    return Certificate(**plain | spans)


_PARTS: dict[str, Callable[..., Any]] = {
    "best": Best,
    "baseline": Baseline,
    "heldout": Heldout,
    "probe": Probe,
    "certificate": _certificate,
}


def encode_trials(trials: Trials) -> bytes:
    """The table as Parquet: number, lr, pre_loss, post_loss, failed. One row a trial."""
    table = pa.table(
        {
            "number": np.arange(len(trials), dtype=np.int32),
            "lr": trials.lr,
            "pre_loss": np.full(len(trials), trials.pre_loss),
            "post_loss": trials.post_loss,
            "failed": trials.failed,
        }
    )
    distribution = optuna.distributions.distribution_to_json(trials.distribution)
    table = table.replace_schema_metadata({"distribution": distribution})
    buffer = io.BytesIO()
    # The losses are noise to a compressor in all but their leading bytes; grouping bytes helps it.
    streams = {"lr": "BYTE_STREAM_SPLIT", "post_loss": "BYTE_STREAM_SPLIT"}
    pq.write_table(
        table,
        buffer,
        compression="zstd",
        use_dictionary=["pre_loss"],
        column_encoding=streams,
    )
    return buffer.getvalue()


def decode_trials(content: bytes) -> Trials:
    """The trials of such a table."""
    table = pq.read_table(io.BytesIO(content))
    distribution = optuna.distributions.json_to_distribution(
        table.schema.metadata[b"distribution"].decode()
    )
    assert isinstance(distribution, optuna.distributions.FloatDistribution)
    return Trials(
        lr=table["lr"].to_numpy(),
        post_loss=table["post_loss"].to_numpy(),
        pre_loss=float(table["pre_loss"][0].as_py()),
        distribution=distribution,
    )


def checksum(content: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def write(folder: Path, record: Record, table: bytes) -> bool:
    """Puts a record into ``folder``, all of it at once.

    Of several processes that write the same record one succeeds. A record that lies there already,
    damaged or of another key, is set aside. Returns: whether this call put it there.
    Raises: OSError where something else than a record lies there.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(folder)
    remove_folder(temporary, FILES)
    try:
        temporary.mkdir()
        write_through(temporary / TRIALS, table)
        write_through(temporary / RECORD, sealed(asdict(record)))
        while True:
            try:
                temporary.rename(folder)
                return True
            except OSError:
                if not folder.is_dir():
                    raise
            if holds(folder, record.key):
                return False
            try:
                set_record_aside(folder)
            except FileNotFoundError:  # another process was faster
                continue
    finally:
        remove_folder(temporary, FILES)


def set_record_aside(folder: Path) -> None:
    """Moves a record, damaged or not, out of the way. Raises: OSError where something else than a record
    lies there; FileNotFoundError where nothing does."""
    if foreign := foreign_in(folder):
        raise FileExistsError(f"{folder} holds {foreign[0]}, which is not srste's: move it elsewhere")
    set_aside(folder)


def foreign_in(folder: Path) -> list[str]:
    """What else than a record's files lies in ``folder``, or the folder's own name where it is none.
    Raises: FileNotFoundError."""
    try:
        return sorted({path.name for path in folder.iterdir()} - FILES)
    except NotADirectoryError:
        return [folder.name]


def holds(folder: Path, key: str) -> bool:
    """Whether a sound record of that key lies in ``folder``."""
    try:
        record = read(folder)
    except DamagedRecordError:
        return False
    return record is not None and record.key == key


def read(folder: Path) -> Record | None:
    """The record in ``folder``; None if there is none.

    Raises: DamagedRecordError when the files are not those that were written.
    """
    try:
        content = (folder / RECORD).read_bytes()
    except FileNotFoundError:
        return None
    try:
        plain = unsealed(content)
    except ValueError as error:
        raise DamagedRecordError(f"{RECORD} {error}") from error
    if plain.get("format") != FORMAT:
        raise DamagedRecordError(f"{RECORD} has format {plain.get('format')}, not {FORMAT}")
    try:
        parts = {n: part(**plain[n]) if plain[n] else None for n, part in _PARTS.items()}
        record = Record(**plain | parts)
    except (KeyError, TypeError) as error:
        raise DamagedRecordError(f"{RECORD} does not hold what it should ({error})") from error
    try:
        table = (folder / TRIALS).read_bytes()
    except FileNotFoundError as error:
        raise DamagedRecordError(f"{TRIALS} is missing") from error
    if checksum(table) != record.table:
        raise DamagedRecordError(f"{TRIALS} is not the table that {RECORD} was written for")
    return record


def noted(root: Path, studies: Mapping[str, str]) -> set[str]:
    """The keys of those studies whose records are there, quickly: nothing is verified. studies: folders
    below ``root`` by key."""
    keys = set()
    for key, folder in studies.items():
        with suppress(OSError, ValueError, KeyError, TypeError):
            if json.loads((root / folder / RECORD).read_bytes())["key"] == key:
                keys.add(key)
    return keys


def read_trials(folder: Path) -> Trials:
    """All trials of the record in ``folder``."""
    return decode_trials((folder / TRIALS).read_bytes())


def load_study(folder: str | Path) -> optuna.Study:
    """The Optuna study of the record in ``folder``, with all its finished trials.

    Raises: FileNotFoundError without a record there; DamagedRecordError.
    """
    folder = Path(folder)
    record = read(folder)
    if record is None:
        raise FileNotFoundError(f"no {RECORD} in {folder}")
    return read_trials(folder).to_optuna(record.name)


def find(root: Path, damaged: list[Path] | None = None) -> Iterator[tuple[Path, Record]]:
    """Every sound record below ``root``, in order of folder. Damaged ones are passed over; their
    folders are added to ``damaged``."""
    for path in below(root, RECORD):
        try:
            record = read(path.parent)
        except DamagedRecordError:
            if damaged is not None:
                damaged.append(path.parent)
            continue
        if record:
            yield path.parent, record


def of_studies(
    root: Path, studies: Mapping[str, str], damaged: list[Path] | None = None
) -> dict[str, tuple[Path, Record]]:
    """The sound records of those studies that are there, by key, with their folders; in order of folder.

    Args: studies: folders below ``root`` by key. damaged: the folders of damaged records are added.
    """
    stored = {}
    for key, below_root in sorted(studies.items(), key=lambda item: Path(item[1]).parts):
        folder = root / below_root
        try:
            record = read(folder)
        except DamagedRecordError:
            if damaged is not None:
                damaged.append(folder)
            continue
        if record is not None and record.key == key:
            stored[key] = folder, record
    return stored
