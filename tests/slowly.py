"""A grid that takes its time: jobs last as long as a test needs, and that costs nothing."""

from __future__ import annotations

import os
import time

from srste.sampling.grid import Grid


class Slowly(Grid):
    """Its losses are there after SLOWLY seconds of sleep."""

    def run(self, *arguments):
        time.sleep(float(os.environ.get("SLOWLY", "0")))
        return super().run(*arguments)
