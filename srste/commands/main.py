"""`srste`: runs studies, and does what can be done with records that are there already."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from srste.errors import UserError, first_line, printable, without_password
from srste.launch.streams import open_missing, tolerant_streams
from srste.report.console import console


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line. Returns the exit code: 0, or 2 for input that was refused."""
    open_missing()
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["run"]:
        sys.argv = ["srste run", *given[1:]]
        from srste.commands.train import main as run

        return run(given[1:])
    with tolerant_streams("srste"):
        arguments = _parser().parse_args(given)
        try:
            return int(arguments.run(arguments))
        except UserError as error:
            print(f"srste: {printable(without_password(str(error)))}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("srste: interrupted; the same command goes on from there", file=sys.stderr)
            return 130
        except OSError as error:
            print(f"srste: {first_line(error)}", file=sys.stderr)
            return 1


def _parser() -> argparse.ArgumentParser:
    of_launches = argparse.ArgumentParser(add_help=False)
    of_launches.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="of a launch, or of several"
    )
    parser = argparse.ArgumentParser(prog="srste", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    commands.add_parser(
        "run",
        help="run studies: what `python train.py` does in a checkout; see `srste run --help`",
        add_help=False,
    )
    sync = commands.add_parser(
        "sync",
        parents=[of_launches],
        help="put the records of launches into MLflow",
        description="Puts the records of launches into MLflow: what is not there yet, each once, at any "
        "time after the jobs, also from a folder that was copied from a cluster.",
    )
    sync.set_defaults(run=_sync)
    sync.add_argument("--uri", help="of the store; by default the launch's own, or where MLflow looks")
    sync.add_argument("--experiment", help="its name; by default the launch's own")
    sync.add_argument(
        "--granularity", choices=["study", "job"], help="a run each; by default the launch's own"
    )
    audit = commands.add_parser(
        "audit",
        help="recompute what is claimed of a log in the note's line format",
        description="Recomputes what is claimed of logs in the line format of the note of June 2021, "
        "and looks for signs that a log is not what it is said to be.",
    )
    audit.set_defaults(run=_audit)
    audit.add_argument("logs", nargs="+", type=Path, metavar="LOG")
    audit.add_argument(
        "--claims",
        type=Path,
        metavar="YAML",
        help="what is claimed; by default by the note of June 2021",
    )
    audit.add_argument("--rerun", action="store_true", help="run it ourselves, beside it")
    report = commands.add_parser(
        "report",
        parents=[of_launches],
        help="the statistics and figures of launches as one HTML page",
        description="Writes one self-contained HTML page about the records below these folders: "
        "verdicts, figures, tables, alarms; beside it a folder with the figures and tables as files.",
    )
    report.set_defaults(run=_report)
    report.add_argument("--out", type=Path, metavar="HTML", help="by default report.html in the folder")
    report.add_argument(
        "--samples", type=int, metavar="N", help="that was fixed beforehand; by default the smallest"
    )
    report.add_argument(
        "--log",
        type=Path,
        action="append",
        default=[],
        help="in the note's format: its drift beside ours",
    )
    optuna = commands.add_parser(
        "optuna",
        parents=[of_launches],
        help="the studies of launches in Optuna's dashboard, or in a storage of Optuna's",
        description="Serves optuna-dashboard on the studies below these folders until Ctrl-C; with "
        "--storage writes what is not there yet into a storage of Optuna's, and serves nothing.",
    )
    optuna.set_defaults(run=_optuna)
    optuna.add_argument("--storage", metavar="URL", help="of a database, as sqlite:///studies.db")
    optuna.add_argument(
        "--trials", metavar="N", help="of each study, or all; by default 320 of more than 1,000"
    )
    optuna.add_argument("--port", type=int, metavar="P", help="of the dashboard; by default 8080")
    return parser


_WIDTH = 200
"""The width of tables that go into a file or a pipe."""


def _report(arguments: argparse.Namespace) -> int:
    from srste.commands.report import report

    screen = console(narrow=_WIDTH)
    report(arguments.folders, arguments.out, arguments.samples, arguments.log, screen)
    return 0


def _optuna(arguments: argparse.Namespace) -> int:
    from srste.commands.dashboard import optuna

    a = arguments
    optuna(a.folders, a.storage, a.trials, a.port)
    return 0


def _sync(arguments: argparse.Namespace) -> int:
    from srste.commands.sync import sync
    from srste.tracking.transactions import shared_connection

    a = arguments
    with shared_connection():
        return 0 if sync(a.folders, a.uri, a.experiment, a.granularity) else 2


def _audit(arguments: argparse.Namespace) -> int:
    from srste.commands.audit.audit import audit

    audit(arguments.logs, arguments.claims, arguments.rerun, console(narrow=_WIDTH))
    return 0
