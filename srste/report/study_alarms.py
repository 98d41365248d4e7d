"""The alarms of a condition: those of each study, and those that need several."""

from dataclasses import replace

from srste.analysis.alarms import Alarm, BestStep, alarms_in
from srste.report.conditions import Condition
from srste.study.results import NOT_MOVED, NOT_RESTORED, SAME_DRAWS


def steps_of(condition: Condition) -> list[BestStep]:
    """Return the best steps of a condition's studies."""
    steps = []
    for (batch, column), record in condition.cells.items():
        best, probe, exact = record.best, record.probe, record.certificate
        if best is None:
            continue
        # The lower end of the search: a grid's first point, or a sampler's bound, since the smallest
        # that it happened to try says nothing. Nor does a control's, which need not descend.
        sampling = record.identity["sampling"]
        lowest = best.smallest_lr if "step" in sampling else sampling.get("lr_min")
        steps.append(
            BestStep(
                batch=batch,
                series=column.series,
                samples=column.samples,
                pre_loss=record.pre_loss,
                lr=best.lr,
                post_loss=best.post_loss,
                smallest_lr=None if column.control else lowest,
                fixed=(probe.lr, probe.loss) if probe else None,
                descends=exact.descends if exact else None,
                missed=exact.regret_fraction if exact else None,
            )
        )
    return steps


def alarms_of(condition: Condition) -> list[Alarm]:
    """Return all alarms of a condition, the most serious kinds first."""
    alarms = alarms_in(steps_of(condition))
    for record in condition.cells.values():
        alarms += [Alarm(kind, record.name, detail) for kind, detail in record.alarm_details.items()]
    order = [NOT_RESTORED, SAME_DRAWS, NOT_MOVED]
    alarms.sort(key=lambda alarm: order.index(alarm.kind) if alarm.kind in order else len(order))
    prefix = f"{condition.label}: " if condition.label else ""
    return [replace(alarm, where=f"{prefix}{alarm.where}") for alarm in alarms]
