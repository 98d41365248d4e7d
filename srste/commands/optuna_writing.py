"""Which studies of a launch an Optuna storage lacks, what they are called there, and how many trials
of each are written."""

from collections.abc import Collection
from dataclasses import dataclass

from srste.analysis.grouping import grouped
from srste.errors import address_without_password
from srste.launch.progress import counting
from srste.report.conditions import labels_of
from srste.store.optuna_database import OptunaDatabase, StoredStudies
from srste.store.optuna_studies import KEY, STUDY, attributes, during, identity_hash
from srste.store.records import Record, StoredRecord, read_trials

WRITTEN = "trials_written"
"""The user attribute with the number of trials that the storage has of a study."""


@dataclass
class Counts:
    """What was done. added, replaced, left: studies. written, trials: the trials that the storage has of
    them, and that the records have. where: the storage."""

    where: str
    added: int = 0
    replaced: int = 0
    left: int = 0
    written: int = 0
    trials: int = 0

    def __str__(self) -> str:
        studies = self.added + self.replaced + self.left
        of = "" if self.written == self.trials else f" of {self.trials:,}"
        done = f"{self.added} added, {self.replaced} replaced, {self.left} there already"
        return f"{self.where}: {studies} studies, {self.written:,}{of} trials ({done})"


def write_studies(
    database: OptunaDatabase, stored: Collection[StoredRecord], most: int | None, where: str = ""
) -> Counts:
    """Write the studies of these records that the database lacks.

    A study that is there with the same key and as many trials is left as it is; one of the same
    configuration with another key, of other code, is replaced. No other study is touched.

    Args: most: trials of each study, see :meth:`srste.sampling.Trials.points`. where: what the database
        is called; by default its address.
    Raises: UserError.
    """
    counts = Counts(where or address_without_password(database.address))
    there = database.studies()
    named = names(stored)
    with counting("studies", len(named)) as step:
        for name, (folder, record) in named.items():
            trials = read_trials(folder)
            numbers = trials.points(most, failed=True)
            counts.trials += len(trials)
            counts.written += len(numbers)
            earlier = _earlier(record, there)
            new = attributes(record) | {WRITTEN: len(numbers)}
            if earlier and all(there.attributes[earlier].get(k) == new[k] for k in (KEY, WRITTEN)):
                counts.left += 1
            else:
                # A study of another configuration, or someone's own, keeps the name that it has.
                taken = name in there.ids and name != earlier
                free = f"{name} {_hash(record)}" if taken else name
                instead_of = there.ids[earlier] if earlier else None
                database.write(free, new, trials, numbers, during(record), instead_of)
                counts.added += earlier is None
                counts.replaced += earlier is not None
            step()
    return counts


def names(stored: Collection[StoredRecord]) -> dict[str, StoredRecord]:
    """Return the records by the name of their study: the estimator, sample count and batch, and of
    several that share them the settings in which they differ. Of several records of one study, from two
    launches or versions of the code, the newest."""
    by_age = sorted(stored, key=lambda one: one[1].created)
    newest = {identity_hash(record): (folder, record) for folder, record in by_age}
    named = {}
    for alike in grouped(newest.values(), key=lambda one: one[1].name).values():
        labels = labels_of([record.identity for _, record in alike])
        for one, (_, label) in zip(alike, labels, strict=True):
            name = f"{one[1].name} {label}".rstrip()
            named[f"{name} {_hash(one[1])}" if name in named else name] = one
    return dict(sorted(named.items(), key=lambda item: _order(item[1][1])))


def _order(record: Record) -> tuple[bool, str, int, int]:
    """Return a sort key: those that draw nothing first, as in tables, then by sample count and batch."""
    return record.samples is not None, record.estimator, record.samples or 0, record.batch


def _earlier(record: Record, there: StoredStudies) -> str | None:
    """Return the name of the study that was written of that configuration before; None if there is none.
    A copy under a name of its own has the same attributes, and is someone's own."""
    study = identity_hash(record)
    names = (name for name in there.ids if name.startswith(record.name))
    return next((name for name in names if there.attributes[name].get(STUDY) == study), None)


def _hash(record: Record) -> str:
    return identity_hash(record)[:8]
