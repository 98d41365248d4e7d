"""The alarms of a launch's studies: what each study noted, and what shows in several together."""

from __future__ import annotations

from srste.analysis.alarms import Alarm, BestStep, alarms_in
from srste.report.conditions import Condition
from srste.store.records import Record
from srste.study.checks import NOT_MOVED, NOT_RESTORED, SAME_DRAWS
from srste.study.results import Best


def steps_of(condition: Condition) -> list[BestStep]:
    """The best steps of a condition's studies, as the alarms look at them."""
    found = []
    for (batch, column), record in condition.cells.items():
        best, probe, exact = record.best, record.probe, record.certificate
        if best is None:
            continue
        found.append(
            BestStep(
                batch=batch,
                series=column.series,
                samples=column.samples,
                pre_loss=record.pre_loss,
                lr=best.lr,
                post_loss=best.post_loss,
                smallest_lr=None if column.control else _lowest(record, best),
                fixed=(probe.lr, probe.loss) if probe else None,
                descends=exact.descends if exact else None,
                missed=exact.regret_fraction if exact else None,
            )
        )
    return found


def _lowest(record: Record, best: Best) -> float | None:
    """The lowest end of what was searched: a grid's first point, or a sampler's bound. The lowest that a
    sampler happened to try says nothing, and neither does a control without descent."""
    sampling = record.identity["sampling"]
    return best.smallest_lr if "step" in sampling else sampling.get("lr_min")


def alarms_of(condition: Condition) -> list[Alarm]:
    """All alarms of a condition, those of the whole first."""
    found = alarms_in(steps_of(condition))
    for record in condition.cells.values():
        for kind, seen in record.alarm_details.items():
            found.append(Alarm(kind, record.name, seen))
    order = [NOT_RESTORED, SAME_DRAWS, NOT_MOVED]
    found.sort(key=lambda alarm: order.index(alarm.kind) if alarm.kind in order else len(order))
    prefix = f"{condition.label}: " if condition.label else ""
    return [Alarm(alarm.kind, f"{prefix}{alarm.where}", alarm.detail) for alarm in found]
