"""Studies in a database of Optuna's, a real `RDBStorage`, written in bulk.

`Study.add_trials` makes a transaction of every trial and counts those before it: 306 s for 50,000.
Here a study is one transaction that inserts the same rows, through Optuna's own table models, in about
two seconds, and is there as a whole or not at all. The tables' version is checked by Optuna.
"""

import json
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import (
    Connection,
    NullPool,
    Table,
    create_engine,
    delete,
    insert,
    inspect,
    literal,
    select,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from srste.errors import UserError, address_without_password, first_line
from srste.sampling import Trials
from srste.sampling.base import LR, METRIC

BACKENDS = ("sqlite", "postgresql", "mysql", "mariadb")
"""The databases that Optuna keeps studies in."""

_SQLITE = b"SQLite format 3\0"
_METRIC_NAMES = "study:metric_names"  # what `Study.set_metric_names` sets


@dataclass(frozen=True)
class StoredStudies:
    """The studies of a database, by name. ids, attributes: their numbers and user attributes."""

    ids: dict[str, int]
    attributes: dict[str, dict[str, Any]]


class OptunaDatabase:
    """A database of Optuna studies, made if it is missing.

    Args: address: for example sqlite:///studies.db. Raises: UserError if it cannot be used.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        url = _checked(address)
        try:
            with self._explained():
                self._refuse_other_tables(url)
                self.storage = RDBStorage(address)
        except ImportError as error:
            reason = f"needs a package that is not installed ({first_line(error.__cause__ or error)})"
            raise refusal(address, reason) from error
        except (RuntimeError, KeyError, ValueError, IndexError) as error:  # of another version, braces
            raise refusal(address, f"Optuna does not take it ({first_line(error, 500)})") from error

    def studies(self) -> StoredStudies:
        """Return what is there. Raises: UserError."""
        with self._explained():
            studies = self.storage.get_all_studies()
        return StoredStudies(
            {study.study_name: study._study_id for study in studies},
            {study.study_name: study.user_attrs for study in studies},
        )

    def write(
        self,
        name: str,
        attributes: Mapping[str, Any],
        trials: Trials,
        numbers: NDArray[np.intp],
        during: tuple[datetime, datetime],
        instead_of: int | None = None,
    ) -> None:
        """Write a study as one transaction.

        Args: attributes: its user attributes. numbers: of the trials that are written, ascending; Optuna
            counts them anew, and where some are left out their user attribute "trial" is the number.
            during: when they began and ended, local times. instead_of: the id of a study to remove.
        Raises: UserError.
        """
        with self._explained(), self.storage.engine.begin() as connection:
            if instead_of is not None:
                _remove(connection, instead_of)
            studies = _table(models.StudyModel)
            connection.execute(insert(studies).values(study_name=name))
            made = select(studies.c.study_id).where(studies.c.study_name == name)
            study_id = connection.scalars(made).one()
            owner = {"study_id": study_id}
            direction = owner | {"direction": StudyDirection.MINIMIZE, "objective": 0}
            _insert(connection, models.StudyDirectionModel, [direction])
            texts = [owner | _attribute(key, value) for key, value in attributes.items()]
            _insert(connection, models.StudyUserAttributeModel, texts)
            metric = owner | _attribute(_METRIC_NAMES, [METRIC])
            _insert(connection, models.StudySystemAttributeModel, [metric])
            _write_trials(connection, study_id, trials, numbers, during)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what Optuna and SQLAlchemy raise into one line."""
        try:
            yield
        except IntegrityError as error:  # the name is there by now
            raise refusal(self.address, "another process writes there; try again after it") from error
        except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
            cause = error.__cause__ if isinstance(error, optuna.exceptions.OptunaError) else error
            plain = getattr(cause, "orig", None) or cause or error  # without SQLAlchemy's additions
            raise refusal(self.address, f"cannot be used ({first_line(plain)})") from error

    def _refuse_other_tables(self, url: URL) -> None:
        """Optuna would add its tables to those of another program, which may then refuse its own: both
        keep their version in a table of one name."""
        engine = create_engine(url, poolclass=NullPool)
        with engine.connect() as connection:
            tables = set(inspect(connection).get_table_names())
        ours = set(models.BaseModel.metadata.tables)
        if tables - ours - {"alembic_version"} and not tables >= ours:
            some = ", ".join(sorted(tables - ours)[:3])
            raise refusal(self.address, f"holds tables of another program ({some})")


def refusal(address: str, reason: str) -> UserError:
    """Return the error for an address that cannot be used."""
    shown = address_without_password(address)
    return UserError(f"--storage={shown}: {reason}; name another, as sqlite:///studies.db")


def _checked(address: str) -> URL:
    """Return the address, parsed. Raises: UserError unless it is one of a database that may be used."""
    try:
        url = make_url(address)
        backend = url.get_backend_name()
    except (SQLAlchemyError, ValueError) as error:
        raise refusal(address, "must be the address of a database") from error
    if backend not in BACKENDS:
        raise refusal(address, f"must begin with one of {', '.join(BACKENDS)}")
    if backend != "sqlite" or "uri" in url.query:
        return url
    if url.host:
        raise refusal(address, f"must have three slashes, as sqlite:///{url.host}")
    if url.database in (None, "", ":memory:"):
        raise refusal(address, "a database in memory ends with the process")
    path = Path(str(url.database))
    try:
        if not path.parent.is_dir():
            raise refusal(address, f"there is no folder {path.parent}")
        if not path.exists():
            return url
        if not stat.S_ISREG(path.stat().st_mode):
            raise refusal(address, f"is {'a folder' if path.is_dir() else 'no file'}")
        with path.open("rb") as file:
            if file.read(len(_SQLITE)) not in (b"", _SQLITE):
                raise refusal(address, "that file is no SQLite database")
    except (OSError, ValueError) as error:
        raise refusal(address, f"cannot be used ({first_line(error)})") from error
    return url


def _write_trials(
    connection: Connection,
    study_id: int,
    trials: Trials,
    numbers: NDArray[np.intp],
    during: tuple[datetime, datetime],
) -> None:
    # Optuna's tables have UTC without a zone, what it returns is local.
    began, ended = (time.astimezone(UTC).replace(tzinfo=None) for time in during)
    failed = trials.failed[numbers]
    common = {"study_id": study_id, "datetime_start": began, "datetime_complete": ended}
    states = [TrialState.FAIL if one else TrialState.COMPLETE for one in failed]
    rows = [common | {"number": n, "state": state} for n, state in enumerate(states)]
    _insert(connection, models.TrialModel, rows)
    of_trials = _table(models.TrialModel)
    written = select(of_trials.c.trial_id).where(of_trials.c.study_id == study_id)
    ids = [int(trial_id) for trial_id in connection.scalars(written.order_by(of_trials.c.number))]
    param = {"param_name": LR, "distribution_json": distribution_to_json(trials.distribution)}
    lrs = zip(ids, trials.lr[numbers].tolist(), strict=True)
    _insert(
        connection, models.TrialParamModel,
        [param | {"trial_id": owner, "param_value": lr} for owner, lr in lrs],
    )  # fmt: skip
    finite = {"objective": 0, "value_type": models.TrialValueModel.TrialValueType.FINITE}
    losses = zip(ids, trials.post_loss[numbers].tolist(), failed, strict=True)
    _insert(
        connection, models.TrialValueModel,
        [finite | {"trial_id": owner, "value": loss} for owner, loss, nan in losses if not nan],
    )  # fmt: skip
    before = _attribute("pre_loss", trials.pre_loss)  # the same for all, so that the database copies it
    copied = [of_trials.c.trial_id, *(literal(value) for value in before.values())]
    attributes = _table(models.TrialUserAttributeModel)
    alike = select(*copied).where(of_trials.c.study_id == study_id)
    connection.execute(insert(attributes).from_select(["trial_id", *before], alike))
    thinned = len(numbers) < len(trials)
    _insert(
        connection, models.TrialUserAttributeModel,
        [
            {"trial_id": owner} | _attribute(key, value)
            for owner, number in zip(ids, numbers.tolist(), strict=True)
            for key, value in _differing(trials, number, thinned).items()
        ],
    )  # fmt: skip


def _differing(trials: Trials, number: int, thinned: bool) -> dict[str, Any]:
    """Return the user attributes in which trials differ."""
    kept = {key: value for key, value in trials.attributes(number).items() if key != "pre_loss"}
    return kept | ({"trial": number} if thinned else {})


def _remove(connection: Connection, study_id: int) -> None:
    """Remove a study and all that belongs to it: Optuna's own removal loads each trial."""
    of_trials = _table(models.TrialModel)
    of_study = select(of_trials.c.trial_id).where(of_trials.c.study_id == study_id)
    for table in reversed(models.BaseModel.metadata.sorted_tables):  # what refers to others first
        if "study_id" in table.c:
            connection.execute(delete(table).where(table.c.study_id == study_id))
        elif "trial_id" in table.c:
            connection.execute(delete(table).where(table.c.trial_id.in_(of_study)))


def _attribute(key: str, value: Any) -> dict[str, str]:
    return {"key": key, "value_json": json.dumps(value)}


def _insert(connection: Connection, model: Any, rows: Iterable[dict[str, Any]]) -> None:
    if rows := list(rows):
        connection.execute(insert(_table(model)), rows)


def _table(model: Any) -> Table:
    table = model.__table__
    assert isinstance(table, Table)
    return table
