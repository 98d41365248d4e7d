"""MLflow's process, which a launch starts: `python -m srste.launch.tracking_process DESCRIPTOR`."""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection
from typing import Any

from srste.launch.libraries import ending, importing


def main(connection: Connection[Any, Any]) -> None:
    """Carry out the requests that come by a connection, until its other end is closed."""
    with importing():
        from srste.launch.tracking_requests import carry_out
    carry_out(connection)
    ending()


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])))
