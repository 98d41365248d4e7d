"""The figures, one a module; each takes records or arrays and gives a matplotlib figure.

They are written to files, without pyplot and its backends. A notebook names one for all processes that
it starts (MPLBACKEND), which need not know it: so matplotlib is imported without that variable.
"""

import os

_BACKEND = os.environ.pop("MPLBACKEND", None)
try:
    import matplotlib  # noqa: F401
finally:
    if _BACKEND is not None:
        os.environ["MPLBACKEND"] = _BACKEND
