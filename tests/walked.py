"""Runs the job of a configuration and says which modules it took: whose code was run, and for whom.

    python walked.py CONFIGURATION FOLDER PLACE...

CONFIGURATION: JSON, resolved. FOLDER: for the records. PLACE: folders whose modules are of interest.
Prints, as JSON, {module: the modules of interest that called its code, or had it imported}; where there
was none, "" did. Nothing of srste may be imported before.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

configuration, folder, *places = sys.argv[1:]
called = {}
"""{file: the files that called into it}."""


def note(frame, event, _):
    file = frame.f_code.co_filename
    if event == "call" and file.startswith(tuple(places)):
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(tuple(places)):
            caller = caller.f_back  # of the import system, say
        called.setdefault(file, set()).add(caller.f_code.co_filename if caller else "")


def main():
    assert not [name for name in sys.modules if name.partition(".")[0] == "srste"]
    threading.setprofile(note)
    sys.setprofile(note)

    from omegaconf import OmegaConf

    from srste.launch.job_config import Job
    from srste.launch.job_runner import Folders, run_job
    from srste.launch.job_values import job_values

    job = Job(job_values(OmegaConf.create(json.loads(configuration))))
    made = run_job(job, Folders(Path(folder), Path(folder)))
    sys.setprofile(None)
    assert made
    names = {getattr(module, "__file__", None): name for name, module in list(sys.modules.items())}
    named = {names[file]: [names.get(caller, "") for caller in called[file]] for file in called}
    print(json.dumps(named))


if __name__ == "__main__":
    main()
