"""The launching process's end of MLflow, which runs in a process of its own (`tracking_process`).

MLflow takes a second to import and, of its own, a tenth of a second a run: here that goes on while the
studies are computed. The records come first: the process reads them from the disk, so that nothing is
lost with it. If it dies, another one takes its place, and writes at the end what is missing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from srste.errors import UserError, first_line
from srste.launch import tracking_process
from srste.launch.child import Child
from srste.launch.signals import deferred
from srste.store.manifest import Launch

if TYPE_CHECKING:
    from srste.launch.results import LaunchResults

log = logging.getLogger(__name__)

_PROCESSES = 5
"""As many in all are started for a launch."""

_REPEATED = ("open", "begin", "sync")
"""Requests that a process is to get which takes the place of another one; the runs of `add` are written
by `sync`."""


class TrackingError(Exception):
    """The store does not take everything; the message says why, in one line."""


class Charts(NamedTuple):
    """How to see a launch's charts, in words, and their address."""

    words: str
    address: str


class Tracker:
    """Sends a launch's records to the process that writes its runs.

    The process starts, and imports MLflow, as soon as this is made; nothing is opened before
    :meth:`open`.
    """

    def __init__(self) -> None:
        self._sent: dict[str, tuple[Any, ...]] = {}
        self._processes = 0
        self._lost = False
        self._start()

    def open(self, launch: Launch, root: Path) -> None:
        """Open the launch's store. root: its folder. Raises: UserError where it cannot be used."""
        self._request("open", launch, root, os.environ.get("MLFLOW_TRACKING_URI"), answered=True)

    def begin(self, launch: Launch) -> None:
        """Show the launch as running, by its id and name in the manifest. What fails is logged."""
        self._notify("begin", launch)

    def add(self, folders: Sequence[Path]) -> None:
        """Have the runs of the records in these folders written, while the studies go on. What fails
        is logged, and repeated by :meth:`sync`."""
        if folders:
            self._notify("add", [folder.absolute() for folder in folders])

    def _notify(self, *request: Any) -> None:
        """Send a request without an answer, as a unit: an interrupted one would leave the connection in
        the middle of a message. What fails is logged once."""
        if self._lost:
            return
        try:
            with deferred():
                self._request(*request)
        except (TrackingError, UserError) as error:
            self._lost = True
            log.warning("MLflow: %s. The records are kept", first_line(error))

    def sync(self, results: LaunchResults) -> None:
        """Have the store made to hold the results, each run once, while figures are drawn. Raises:
        TrackingError."""
        self._request("sync", results)

    def finish(self, files: Sequence[Path], seconds: float, step: Callable[[int, int], None]) -> Charts:
        """Wait until the store holds the results and these files. seconds: what the launch took; step:
        is called with the number of runs that are there, and of all.

        Raises: TrackingError.
        """
        paths = [path.absolute() for path in files]
        return Charts(*self._request("finish", paths, seconds, answered=True, step=step))

    def interrupt(self, seconds: float) -> None:
        """Show the launch as interrupted after so many seconds; runs not yet written are left to the
        next launch."""
        with suppress(TrackingError, UserError):  # what fails was said before
            self._request("interrupt", seconds, answered=True)

    def close(self) -> None:
        """End the process, once it has written the run that it is at."""
        self._connection.close()
        if not self._sent:  # nothing was opened
            self._child.kill()
        if self._child.wait(10) is None:  # a server that does not answer
            self._child.kill()
            self._child.wait(10)

    def _start(self) -> None:
        self._processes += 1
        self._child = Child(tracking_process.main, fork=self._processes == 1)
        self._connection = self._child.connection

    def _request(
        self,
        *request: Any,
        answered: bool = False,
        step: Callable[[int, int], None] | None = None,
    ) -> list[Any]:
        """Send a request, and return its answer if it has one. If the process dies, another one gets
        it. Raises: TrackingError, UserError."""
        while True:
            try:
                self._connection.send(request)
                while answered or self._connection.poll():
                    kind, *content = self._connection.recv()
                    if kind == "done" and content[0] == request[0]:
                        return list(content[1:])
                    if kind == "refused":
                        raise UserError(*content)
                    if kind == "failed":
                        raise TrackingError(*content)
                    if kind == "step" and step is not None:
                        step(*content)
                    elif kind == "log":
                        log.log(content[0], "%s", content[1])
                return []
            except (OSError, EOFError):
                self._replace()
            finally:
                if request[0] in _REPEATED:
                    self._sent[request[0]] = request

    def _replace(self) -> None:
        """Start another process in place of one that has died, and repeat what that one was told.

        Raises: TrackingError after several.
        """
        self._connection.close()
        self._child.kill()
        code = self._child.wait(10)
        why = f"signal {-code}" if code and code < 0 else f"exit code {code}"
        if self._processes >= _PROCESSES:
            raise TrackingError(f"its process has ended {self._processes} times, at last by {why}")
        log.warning("MLflow's process has ended (%s); another one takes its place", why)
        self._start()
        with suppress(OSError):  # dead again, which the next request will find
            for name in _REPEATED:
                if name in self._sent:
                    self._connection.send(self._sent[name])


_active: list[Tracker] = []


def tracker() -> Tracker | None:
    """Return the tracker of this process's launch, if it has one."""
    return _active[-1] if _active else None


def activate(made: Tracker | None) -> None:
    """Make :func:`tracker` return this one."""
    _active[:] = [made] if made else []
