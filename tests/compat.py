"""The core of the tests with the oldest and the newest dependencies that are allowed.

    make compat

An environment of each, `.compat/NAME`, is made by uv, which can resolve to the lowest versions of what
`pyproject.toml` names. PyTorch is the version of `constraints.txt` in all of them: others are gigabytes.
Warnings are errors with pinned dependencies alone: old libraries warn of each other.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT

ENVIRONMENTS = {
    "oldest-3.11": ("3.11", "lowest-direct"),
    "newest-3.11": ("3.11", "highest"),
    "newest-3.12": ("3.12", "highest"),
    "newest-3.13": ("3.13", "highest"),
}
CORE = [
    "golden", "study", "public_face", "curve", "curve_kernels", "curve_losses", "sampling", "statistics",
    "report", "page", "store", "pretraining", "records", "main_job", "composing",
]  # fmt: skip
FOLDER = ROOT / ".compat"
UV = [sys.executable, "-m", "uv", "--quiet"]


def torch_version() -> str:
    return re.search(r"^torch==.*$", (ROOT / "constraints.txt").read_text(), re.MULTILINE).group()


def make(name: str, python: str, resolution: str) -> Path:
    """An environment with the project. Returns: its Python."""
    executable = FOLDER / name / "bin/python"
    subprocess.run([*UV, "venv", "--clear", "--python", python, FOLDER / name], check=True)
    subprocess.run(
        [*UV, "pip", "install", "--python", executable, "--resolution", resolution, torch_version(),
         "--editable", f"{ROOT}[test]"], check=True,
    )  # fmt: skip
    return executable


def outcome(name: str, python: Path, tests: list[str]) -> tuple[int, str]:
    """The exit code and the last line of the tests; all they print is in `.compat/NAME.log`."""
    log = FOLDER / f"{name}.log"
    command = [python, "-m", "pytest", "--numprocesses=2", "--dist=loadfile", "-p", "no:cacheprovider",
               "-o", "filterwarnings=default", "--disable-warnings",
               *(ROOT / f"tests/test_{test}.py" for test in tests)]  # fmt: skip
    environment = {
        "NUMBA_CACHE_DIR": str(FOLDER / name / "numba"),
        "PATH": f"{python.parent}:/usr/bin:/bin",
    }
    with log.open("w") as out:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT, check=False
        )
    return done.returncode, log.read_text().rstrip().splitlines()[-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", help="environments", choices=ENVIRONMENTS)
    parser.add_argument("--tests", nargs="+", default=CORE, help="files, without test_ and .py")
    options = parser.parse_args()
    failed = False
    for name in options.only or ENVIRONMENTS:
        python, resolution = ENVIRONMENTS[name]
        find = [*UV, "python", "find", "--no-python-downloads", python]
        if subprocess.run(find, stdout=subprocess.DEVNULL, check=False).returncode:
            print(f"{name}: skipped, there is no python{python} on this machine", flush=True)
            continue
        code, last = outcome(name, make(name, python, resolution), options.tests)
        failed |= code != 0
        print(f"{name}: {last}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
