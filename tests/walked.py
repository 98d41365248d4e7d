"""Runs the job of a configuration and says which modules it took: those whose code was run.

    python walked.py CONFIGURATION FOLDER PLACE...

CONFIGURATION: JSON, resolved. FOLDER: for the records. PLACE: folders whose modules are of interest.
Prints their names as JSON. Nothing of srste may be imported before.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

run = set()
"""The files of all code that was run."""


def note(frame, event, _):
    if event == "call":
        run.add(frame.f_code.co_filename)


def main():
    configuration, folder, *places = sys.argv[1:]
    assert not [name for name in sys.modules if name.partition(".")[0] == "srste"]
    threading.setprofile(note)
    sys.setprofile(note)

    from omegaconf import OmegaConf

    from srste.config import Job
    from srste.run import Folders, run_job

    made = run_job(Job(OmegaConf.create(json.loads(configuration))), Folders(Path(folder), Path(folder)))
    sys.setprofile(None)
    assert made
    files = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
    print(json.dumps([n for n, f in files.items() if f in run and f.startswith(tuple(places))]))


if __name__ == "__main__":
    main()
