"""MLflow in a process of its own: opens a launch's store, and writes its runs as it is told.

A request is a tuple of a name and arguments. The process ends when the other end of the connection is
closed, as by the death of the launching process: the run that is being written is finished, and the
rest is left.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from srste.errors import UserError, first_line
from srste.launch.launch_folder import TRACKING_LOCK
from srste.launch.results import LaunchResults
from srste.launch.tracked import Tracked, synced, write_outcome
from srste.store import records
from srste.store.manifest import Launch
from srste.tracking import Store, StoreError, entries, open_store
from srste.tracking.transactions import shared_connection

if TYPE_CHECKING:
    Channel = Connection[Any, Any]


class _Requests:
    """The requests of a connection, read by a thread, so that who sends them never waits."""

    def __init__(self, connection: Channel) -> None:
        self._queue: queue.Queue[tuple[Any, ...]] = queue.Queue()
        self.urgent = threading.Event()
        threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: Channel) -> None:
        while True:
            try:
                request = connection.recv()
            except Exception:  # closed, or cut off in the middle of a message
                request = ("end",)
            if request[0] in ("end", "interrupt"):
                self.urgent.set()
            self._queue.put(request)
            if request[0] == "end":
                return

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        while (request := self._queue.get())[0] != "end":
            yield request


class _StoppedError(Exception):
    """The rest is not to be written."""


class _Writer:
    """Carries out the requests of a launch; each method is one.

    A run is written as a unit: `add` and `sync` stop between two when the launch is interrupted.
    """

    def __init__(self, connection: Channel, requests: _Requests) -> None:
        self._connection, self._requests = connection, requests
        self._launch_run: str | None = None
        self._failure, self._stepped = "", 0.0
        self._tracked: Tracked | None = None

    def open(self, launch: Launch, root: Path, uri: str | None) -> None:
        """uri: what MLflow's variable holds there: an address with a password is in no file."""
        if uri is not None:
            os.environ["MLFLOW_TRACKING_URI"] = uri
        self._launch = launch
        self._store: Store = open_store(launch.tracking, launching=True)
        # A process of a launch that was killed may be writing its last run.
        self._lock = FileLock(root / TRACKING_LOCK) if root.is_dir() else None
        self._send("done", "open")

    def begin(self, launch: Launch) -> None:
        self._launch = launch
        self._attempt(self._begin)

    def _begin(self) -> None:
        while self._lock is not None and not self._requests.urgent.is_set():
            try:
                self._lock.acquire(timeout=0.5)
                break
            except Timeout:
                continue
        self._launch_run = self._store.begin(self._launch)

    def add(self, folders: Sequence[Path]) -> None:
        if not self._failure:
            self._attempt(lambda: self._add(folders))

    def _add(self, folders: Sequence[Path]) -> None:
        stored = []
        for path in folders:
            with suppress(records.DamagedRecordError):  # which is said at the end
                if record := records.read(path):
                    stored.append((path, record))
        runs = entries(stored, [], self._launch.tracking["granularity"])
        goes_on = (run for run in runs if not self._requests.urgent.is_set())
        self._store.add(self._launch, goes_on)

    def _attempt(self, write: Any) -> None:
        """Write; what fails is said at once, and tried again at the end."""
        try:
            write()
        except StoreError as error:
            self._failure = first_line(error)
            said = "The records are kept, and put there at the end if it answers again"
            self._send("log", logging.WARNING, f"MLflow: {self._failure}. {said}")

    def sync(self, results: LaunchResults) -> None:
        self._failure = ""
        try:
            self._tracked = synced(results, self._store, self._step)
        except _StoppedError:
            pass
        except StoreError as error:
            self._failure = first_line(error)

    def _step(self, done: int, total: int) -> None:
        if self._requests.urgent.is_set():
            raise _StoppedError
        now = time.monotonic()
        if done == total or now - self._stepped > 0.1:  # nobody may be reading them yet
            self._stepped = now
            self._send("step", done, total)

    def finish(self, files: Sequence[Path], seconds: float) -> None:
        if self._tracked is not None and not self._failure:
            try:
                write_outcome(self._tracked, self._store, files, seconds)
            except StoreError as error:
                self._failure = first_line(error)
        if self._failure or self._tracked is None:
            self._send("failed", self._failure)
        else:
            launch = self._tracked.results.launch
            self._send("done", "finish", self._store.charts(launch), self._store.charts_address(launch))

    def interrupt(self, seconds: float) -> None:
        if self._launch_run is not None:
            self._attempt(lambda: self._store.interrupt(str(self._launch_run), seconds))
        self._send("done", "interrupt")

    def _send(self, *message: Any) -> None:
        self._connection.send(message)


class _Forwarding(logging.Handler):
    """Sends what is logged here to the launching process, on whose screen it belongs."""

    def __init__(self, connection: Channel) -> None:
        super().__init__(logging.WARNING)
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        self._connection.send(("log", record.levelno, record.getMessage()))


def carry_out(connection: Channel) -> None:
    """Carry out requests until the other end is closed."""
    logging.basicConfig(handlers=[_Forwarding(connection)], force=True)
    requests = _Requests(connection)
    writer = _Writer(connection, requests)
    with shared_connection(), suppress(ConnectionError):  # nobody is there any more
        for name, *arguments in requests:
            try:
                getattr(writer, name)(*arguments)
            except UserError as error:
                connection.send(("refused", str(error)))
