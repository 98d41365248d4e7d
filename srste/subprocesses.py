"""What a Python process needs that this one starts."""

import os
from pathlib import Path

import srste


def environment_with_package() -> dict[str, str]:
    """Return this process's environment, with the folder of this package on PYTHONPATH: the process must
    find it, installed or not."""
    package = str(Path(srste.__file__).parent.parent)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if package in paths:
        return dict(os.environ)
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [package, *paths]))}
