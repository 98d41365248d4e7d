"""When this process started."""

import os
import time
from pathlib import Path

import psutil


def process_start() -> float:
    """Return when this process started, by `time.perf_counter`."""
    try:
        # Linux's file is exact to ten milliseconds; psutil adds its times to a whole second's boot.
        since_boot = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        age = time.time() - psutil.Process().create_time()
    return time.perf_counter() - age
