"""The figures, one a module; each takes records or arrays and gives a matplotlib figure.

They are written to files, without pyplot and its backends. A notebook names one for all processes that
it starts (MPLBACKEND), and matplotlib cannot be imported where it does not know that one. So it is told
after its import, as the notebook's own figures need it, and not at all where it does not know it.
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
