"""A child process with a connection: forked where that is safe, and otherwise started anew."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from typing import TYPE_CHECKING, Any

from srste.subprocesses import environment_with_package

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


class Child:
    """A process that runs `main` with a connection to this one.

    It is forked if that is asked for and this process has one thread, on Linux, and otherwise a new
    Python that runs the function's module with the number of its descriptor. It is out of reach of the
    terminal's signals, and learns of this process's end by that of the connection.

    Args: main: of a module that calls it when it is run. fork: whether it may be forked, as before
        libraries with threads of their own are imported.
    """

    def __init__(self, main: Callable[[Connection[Any, Any]], None], fork: bool) -> None:
        self._code: int | None = None
        self.connection, theirs = Pipe()
        safe = fork and sys.platform == "linux" and threading.active_count() == 1
        self._pid = self._forked(main, theirs) if safe else self._executed(main, theirs)
        theirs.close()

    def wait(self, seconds: float) -> int | None:
        """Return the exit code, negative that of a signal; None while it has not ended by then."""
        deadline, pause = time.monotonic() + seconds, threading.Event()
        while self._code is None:
            try:
                pid, status = os.waitpid(self._pid, os.WNOHANG)
            except ChildProcessError:  # where SIGCHLD is ignored, nobody can wait for it
                pid, status = self._pid, 0
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                return None
            else:
                pause.wait(0.005)
        return self._code

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        if self.wait(0) is None:
            os.kill(self._pid, signal.SIGKILL)

    def _forked(self, main: Callable[[Connection[Any, Any]], None], theirs: Connection[Any, Any]) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            self.connection.close()
            os.setsid()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(null, 1)
            main(theirs)
            code = 0
        except BaseException:
            with suppress(OSError):
                sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)  # what this process would do at its exit is the other one's

    @staticmethod
    def _executed(main: Callable[[Connection[Any, Any]], None], theirs: Connection[Any, Any]) -> int:
        number = theirs.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", main.__module__, str(number)],
            pass_fds=[number], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            env=environment_with_package(), start_new_session=True,
        )  # fmt: skip
        process.returncode = 0  # waited for by its number, not by this object
        return process.pid
