"""The tables, figures and report of a launch, not drawn again where nothing in them would change."""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import srste
from srste.errors import UserError, first_line
from srste.launch.results import LaunchResults, report_on
from srste.report.launch_files import write_files
from srste.store.files import checksum, hash_of, write_atomically
from srste.store.records import RECORD

DRAWN = ".srste.drawn.json"
"""The file, in a launch's folder, that tells what its figures and tables were made from."""

_PACKAGE = Path(srste.__file__).parent
_CODE = ("analysis", "curve", "launch", "note2021", "report", "sampling", "store", "study")
"""The packages of srste that the files are made by."""
_DRAWN_WITH = ("matplotlib", "numpy", "scipy", "plotly", "rich")


@dataclass
class Outputs:
    """files: tables and figures, the report's page and its folder among them. page: the report, if there
    is one. complaints: what could not be written, and why."""

    files: list[Path] = field(default_factory=list)
    page: Path | None = None
    complaints: list[str] = field(default_factory=list)


def write_outputs(results: LaunchResults, report: bool) -> Outputs:
    """Write the files of a launch into its folder. What could not be written is a complaint, and ends
    nothing. report: whether the report is among them."""
    made_from = ""
    with suppress(OSError):  # what cannot be read is said elsewhere
        made_from = _made_from(results, report)
        if (earlier := _unchanged(results.root, made_from)) is not None:
            return earlier
    outputs = Outputs()
    written: list[Path] = []
    try:
        outputs.files = write_files(results.conditions, results.root)
        written += outputs.files
    except OSError as error:
        outputs.complaints.append(f"no tables and figures: {first_line(error)}")
    if report and results.records:
        try:
            made = report_on(results, results.root)
            outputs.page = made.page
            outputs.files += [made.page, made.page.with_suffix("")]
            written += [made.page, *made.files]
        except (OSError, UserError) as error:
            outputs.complaints.append(f"no report: {first_line(error)}")
    if made_from and not outputs.complaints:
        with suppress(OSError):  # then they are drawn again the next time
            _remember(results.root, made_from, outputs, written)
    return outputs


def _made_from(results: LaunchResults, report: bool) -> str:
    """Return a hash of everything that the files are made from: the records, what the report says of the
    launch, the code, and the packages that draw."""
    stored = {
        key: checksum((folder / RECORD).read_bytes()) for key, (folder, _) in results.records.items()
    }
    code = [
        path.read_bytes()
        for part in _CODE
        for path in sorted((_PACKAGE / part).rglob("*.*"))
        if path.suffix in (".py", ".html", ".js")
    ]
    return hash_of(
        {
            "records": stored,
            "report": report,
            "launch": [results.launch.title, results.launch.command],
            "missing": results.n_missing(results.contents),
            "code": checksum(b"\0".join(code)),
            "packages": {name: version(name) for name in _DRAWN_WITH},
        }
    )


def _unchanged(root: Path, made_from: str) -> Outputs | None:
    """Return the files of an earlier launch in the folder, if they were made from the same and are as
    they were written."""
    try:
        drawn = json.loads((root / DRAWN).read_bytes())
        if drawn["made from"] != made_from:
            return None
        for name, digest in drawn["written"].items():
            if checksum((root / name).read_bytes()) != digest:
                return None
        page = drawn["page"]
        return Outputs([root / name for name in drawn["files"]], root / page if page else None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _remember(root: Path, made_from: str, outputs: Outputs, written: list[Path]) -> None:
    def name(path: Path) -> str:
        return path.relative_to(root).as_posix()

    drawn = {
        "made from": made_from,
        "files": [name(path) for path in outputs.files],
        "page": name(outputs.page) if outputs.page else None,
        "written": {name(path): checksum(path.read_bytes()) for path in written},
    }
    write_atomically(root / DRAWN, json.dumps(drawn).encode())
