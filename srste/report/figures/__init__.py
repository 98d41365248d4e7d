"""The figures, one per module; each makes a matplotlib figure of records or arrays.

They are written to files, without pyplot and its backends. A notebook names a backend for all
processes that it starts (MPLBACKEND), and matplotlib's import fails where it does not know that
one. So the backend is set after the import, for the notebook's own figures, if matplotlib knows it.
"""

import os
import sys
from contextlib import suppress

if "matplotlib" not in sys.modules and (_backend := os.environ.pop("MPLBACKEND", None)):
    try:
        import matplotlib
    finally:
        os.environ["MPLBACKEND"] = _backend
    with suppress(ValueError):
        matplotlib.rcParams["backend"] = _backend
