"""An Optuna storage that keeps a study's finished trials as columns.

Optuna's own ``study.add_trials`` takes seconds for 50,000 trials; this takes a fraction of a
millisecond, and makes the ``FrozenTrial`` of a number when it is asked for. The study is a real
one: everything of Optuna's that reads trials works, and more trials can be added to it.
"""

from __future__ import annotations

import copy
import datetime
import math
from collections.abc import Iterator
from typing import Any, overload

import optuna
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from srste.sampling.base import LR, Trials, failure


class ColumnarStorage(InMemoryStorage):
    """One study whose first trials are columns; their trial ids are their numbers. Of several trials
    with the lowest loss, that of the smallest learning rate is the best.

    Args: trials: the columns. They must not be changed afterwards.
    """

    def __init__(self, trials: Trials) -> None:
        super().__init__()
        self._columns = trials
        self._max_trial_id = len(trials) - 1
        self._trial_id_to_study_id_and_number = _Numbers(len(trials))

    def create_new_study(self, directions: Any, study_name: str | None = None) -> int:
        """The one study. Raises: RuntimeError for a second, or for more than one objective."""
        if self._studies or list(directions) != [StudyDirection.MINIMIZE]:
            raise RuntimeError("ColumnarStorage holds one study with one loss to minimise")
        study_id = super().create_new_study(directions, study_name)
        info = self._studies[study_id]
        info.trials = _LazyTrials(self._columns)  # type: ignore[assignment]
        info.param_distribution[LR] = self._columns.distribution
        info.best_trial_id = self._columns.best()
        # None of the columns is waiting to be run.
        self._prev_waiting_trial_number[study_id] = len(self._columns)
        return study_id

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """See optuna.storages.BaseStorage. Raises: ValueError when no trial is complete."""
        with self._lock:
            best = super().get_best_trial(study_id)
            if len(self._studies[study_id].trials) == len(self._columns):
                return best  # that of the columns
            rivals = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.COMPLETE,))
            lowest = [t for t in rivals if t.value == best.value and LR in t.params]
            return min(lowest, key=lambda t: t.params[LR], default=best)

    def get_n_trials(
        self, study_id: int, state: tuple[TrialState, ...] | TrialState | None = None
    ) -> int:
        """See optuna.storages.BaseStorage."""
        with self._lock:
            if state is None:
                self._check_study_id(study_id)
                return len(self._studies[study_id].trials)
            return super().get_n_trials(study_id, state)


class _Numbers(dict[int, tuple[int, int]]):
    """(study id, number) of each trial id: the columns' implicitly, later ones as entries."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns = columns

    def __contains__(self, trial_id: object) -> bool:
        return super().__contains__(trial_id) or (
            isinstance(trial_id, int) and 0 <= trial_id < self.columns
        )

    def __missing__(self, trial_id: int) -> tuple[int, int]:
        if trial_id not in self:
            raise KeyError(trial_id)
        return 0, trial_id

    def __delitem__(self, trial_id: int) -> None:
        self.pop(trial_id, None)

    def __reduce__(self) -> Any:
        return _restore_numbers, (self.columns, dict(self.items()))


def _restore_numbers(columns: int, entries: dict[int, tuple[int, int]]) -> _Numbers:
    numbers = _Numbers(columns)
    numbers.update(entries)
    return numbers


class _LazyTrials:
    """A list of trials, of which the first are made from columns each time they are asked for."""

    def __init__(self, columns: Trials) -> None:
        self._columns = columns
        self._added: list[FrozenTrial] = []
        self._time = datetime.datetime.now()

    def __len__(self) -> int:
        return len(self._columns) + len(self._added)

    def __iter__(self) -> Iterator[FrozenTrial]:
        return (self[number] for number in range(len(self)))

    @overload
    def __getitem__(self, number: int) -> FrozenTrial: ...
    @overload
    def __getitem__(self, number: slice) -> list[FrozenTrial]: ...

    def __getitem__(self, number: int | slice) -> FrozenTrial | list[FrozenTrial]:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        if number < 0:
            number += len(self)
        if number >= len(self._columns):
            return self._added[number - len(self._columns)]
        return self._frozen(number)

    def __setitem__(self, number: int, trial: FrozenTrial) -> None:
        # Optuna refuses to change a trial that is finished: only those that were added come here.
        self._added[number - len(self._columns)] = trial

    def append(self, trial: FrozenTrial) -> None:
        self._added.append(trial)

    def __copy__(self) -> list[FrozenTrial]:
        return list(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> list[FrozenTrial]:
        # Trials made from columns are fresh already; only those that are kept need copying.
        return [*map(self._frozen, range(len(self._columns))), *copy.deepcopy(self._added, memo)]

    def _frozen(self, number: int) -> FrozenTrial:
        columns = self._columns
        post_loss = float(columns.post_loss[number])
        failed = not math.isfinite(post_loss)
        attributes: dict[str, Any] = {"pre_loss": columns.pre_loss, "post_loss": post_loss}
        if failed:
            attributes["reason"] = failure(post_loss)
        return FrozenTrial(
            number=number,
            trial_id=number,
            state=TrialState.FAIL if failed else TrialState.COMPLETE,
            value=None if failed else post_loss,
            datetime_start=self._time,
            datetime_complete=self._time,
            params={LR: float(columns.lr[number])},
            distributions={LR: columns.distribution},
            user_attrs=attributes,
            system_attrs={},
            intermediate_values={},
        )


def columnar_study(trials: Trials, name: str) -> optuna.Study:
    """A study of that name with these finished trials."""
    return optuna.create_study(storage=ColumnarStorage(trials), study_name=name, direction="minimize")
