"""One transaction for what belongs together in a SQLite store.

MLflow commits a dozen times a run, and each time waits for the disk, some milliseconds, until the commit
is there for good. The runs are copies of records that are on disk already: of a crash in between it is
enough that a run is there as one or not at all.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, Pool, event

_POOL = "MLFLOW_SQLALCHEMYSTORE_POOLCLASS"


class _Connection(sqlite3.Connection):
    """The one connection of all sessions, whose commits are put off within :func:`one_transaction`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_returned = False

    def commit(self) -> None:
        if _pending is None:
            super().commit()
        else:
            _pending.add(self)

    def rollback(self) -> None:
        # The pool rolls back whatever a session returns, committed or not; another session may be at it.
        if self.is_returned:
            self.is_returned = False
            return
        if _pending is not None:
            _pending.discard(self)
        super().rollback()

    def end(self, commit: bool) -> None:
        """Commit what was put off, or undo it."""
        if commit:
            super().commit()
        else:
            super().rollback()


_pending: set[_Connection] | None = None
"""The connections whose commits are put off; None where none are to be."""


@event.listens_for(Pool, "reset")
def _returned(connection: Any, _: object, __: object) -> None:
    if isinstance(connection, _Connection):
        connection.is_returned = True


@contextmanager
def shared_connection() -> Iterator[None]:
    """Let all of MLflow's sessions have one connection to a SQLite store that is opened within the
    block, as :func:`one_transaction` needs it. For a process with one thread that uses the store."""
    before = os.environ.get(_POOL)
    os.environ[_POOL] = "StaticPool"
    event.listen(Engine, "do_connect", _connect)
    try:
        yield
    finally:
        event.remove(Engine, "do_connect", _connect)
        os.environ.pop(_POOL)
        if before is not None:
            os.environ[_POOL] = before


def _connect(dialect: Any, _: object, __: object, options: dict[str, Any]) -> None:
    if dialect.name == "sqlite":
        options["factory"] = _Connection


@contextmanager
def one_transaction() -> Iterator[None]:
    """Commit once, at the end of the block, what MLflow commits within it to a SQLite store; undo it all
    if the block fails. Without :func:`shared_connection`, or in another store, each commit counts."""
    global _pending
    if _pending is not None:  # within another one
        yield
        return
    _pending = set()
    succeeded = False
    try:
        yield
        succeeded = True
    finally:
        connections, _pending = _pending, None
        for connection in connections:
            connection.end(succeeded)
