"""The results of launches, read from their folders, as data frames, verdicts and a report."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import optuna
import pandas as pd

from srste.commands.optuna_writing import write_studies
from srste.commands.report import Gathered, gather, write
from srste.errors import UserError
from srste.report.claims import Claim, claims
from srste.report.conditions import conditions
from srste.report.panels import settings
from srste.sampling import Trials
from srste.store import records
from srste.store.optuna_database import OptunaDatabase
from srste.store.quantities import row
from srste.store.records import Record

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredStudy:
    """A study on disk. folder: of its record."""

    record: Record
    folder: Path

    @property
    def name(self) -> str:
        """The estimator, sample count and batch."""
        return self.record.name

    def trials(self) -> Trials:
        """Return all trials, as columns."""
        return records.read_trials(self.folder)

    def to_optuna(self) -> optuna.Study:
        """Return an Optuna study of all trials."""
        return records.load_study(self.folder)

    def __repr__(self) -> str:
        best = self.record.best
        loss = f"{best.post_loss:.6g} at learning rate {best.lr:.6g}" if best else "all trials failed"
        return f"<stored study {self.name}: loss {self.record.pre_loss:.6g}, then {loss}>"


class Results:
    """The studies at or below some folders.

    damaged: the folders of damaged records, which are skipped with a warning.

    Args: folders: of launches, or of any part of one.
    Raises: ValueError for a folder without studies.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        try:
            self._gathered: Gathered = gather(folders)
        except UserError as error:
            raise ValueError(str(error)) from error
        self.damaged = self._gathered.damaged
        if self.damaged:
            log.warning("Damaged records passed over: %d, first %s", len(self.damaged), self.damaged[0])

    @cached_property
    def studies(self) -> list[StoredStudy]:
        """The studies, in order of folder."""
        return [StoredStudy(record, folder) for folder, record in self._gathered.records.values()]

    def frame(self) -> pd.DataFrame:
        """Return a row per study: its settings, its losses, and its regret over all learning rates.

        Columns: estimator, samples (missing where none are drawn), batch, seed, model, data, loss,
        pretraining, pre_loss, post_loss, lr, decrease (of the loss), regret (of the best
        trial, above the lowest loss there is), heldout_pre_loss, heldout_post_loss, zero_loss,
        angle (degrees to the baseline), exact, trials, failed, alarms, key.
        """
        return pd.DataFrame([row(study.record) for study in self.studies]).convert_dtypes()

    def claims(self, samples: int | None = None) -> list[Claim]:
        """Return each claim of one estimator against another, a control, a zero output or no step.

        Args: samples: the sample count that was fixed beforehand; by default the smallest.
        """
        arranged = conditions(study.record for study in self.studies)
        return [claim for setting in settings(arranged) for claim in claims(setting, samples)]

    def verdicts(self, samples: int | None = None) -> pd.DataFrame:
        """Return a row per claim: the verdict, the mean gain over networks and its 95 % interval,
        and the p-value after Holm's correction.

        Args: samples: as for :meth:`claims`.
        """
        return pd.DataFrame([_verdict(claim) for claim in self.claims(samples)])

    def report(self, path: str | Path = "report.html", samples: int | None = None) -> Path:
        """Write the report, and its figures and tables into a folder of its name beside it.

        Args: path: of the page, ending in .html. samples: as for :meth:`claims`.
        Returns: the page. Raises: ValueError for another extension, or if other files are there.
        """
        page = Path(path)
        try:
            write(self._gathered, self._gathered.chapters(samples), page, samples, {})
        except UserError as error:
            raise ValueError(str(error)) from error
        return page

    def to_optuna(self, storage: str, trials: int | None = None) -> None:
        """Write the studies into a storage of Optuna's: those that are not there yet, or were computed
        by other code.

        Args: storage: the address of a database, as sqlite:///studies.db. trials: how many of each
            study, by stride and with the best; by default all of up to 1,000, 320 of more.
        Raises: ValueError for a number below 1, or if the storage cannot be used.
        """
        if trials is not None and trials < 1:
            raise ValueError(f"`trials={trials}` must be >= 1")
        try:
            write_studies(OptunaDatabase(storage), self._gathered.records.values(), trials)
        except UserError as error:
            raise ValueError(str(error)) from error

    def __len__(self) -> int:
        return len(self.studies)

    def __repr__(self) -> str:
        estimators = sorted({study.record.estimator for study in self.studies})
        return f"<{len(self)} studies of {', '.join(estimators)}>"

    def _repr_html_(self) -> str:
        shown = ["estimator", "samples", "seed", "batch", "pre_loss", "post_loss", "lr", "decrease"]
        return str(self.frame()[shown].to_html(max_rows=20, float_format="{:.6g}".format))


def _verdict(claim: Claim) -> dict[str, object]:
    gains = claim.finding.comparison
    return {
        "setting": claim.setting,
        "first": claim.first,
        "second": claim.second,
        "measure": claim.measure.short,
        "rule": claim.finding.how,
        "verdict": claim.finding.verdict,
        "gain": gains.mean,
        "low": gains.low,
        "high": gains.high,
        "networks": gains.networks,
        "p": claim.finding.p_value,
    }
