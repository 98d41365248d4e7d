"""Numbers of a study, for people."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """For people: "0.4 s", "25 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
