"""`python -m srste`: what can be done with records that are there already."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from srste.errors import UserError, first_line, without_password


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line. Returns the exit code: 0, or 2 for what was refused."""
    parser = argparse.ArgumentParser(prog="python -m srste", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    sync = commands.add_parser(
        "sync",
        help="put the records of launches into MLflow",
        description="Puts the records of launches into MLflow: what is not there yet, each once, at any "
        "time after the jobs, also from a folder that was copied from a cluster.",
    )
    sync.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="of a launch, or of several"
    )
    sync.add_argument("--uri", help="of the store; by default the launch's own, or where MLflow looks")
    sync.add_argument("--experiment", help="its name; by default the launch's own")
    sync.add_argument(
        "--granularity", choices=["study", "job"], help="a run each; by default the launch's own"
    )
    arguments = parser.parse_args(argv)
    try:
        from srste.sync import sync as put

        done = put(arguments.folders, arguments.uri, arguments.experiment, arguments.granularity)
    except UserError as error:
        print(f"srste: {without_password(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("srste: interrupted; the same command goes on from there", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"srste: {first_line(error)}", file=sys.stderr)
        return 1
    return 0 if done else 2


if __name__ == "__main__":
    sys.exit(main())
