"""A run is in a SQLite store as one or not at all, and waits for the disk once."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import mlflow
import pytest
from mlflow.entities import Metric, Param
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from srste.tracking.databases import make_database
from srste.tracking.transactions import one_transaction, shared_connection


@pytest.fixture
def store(tmp_path):
    """(client, its file) of a store whose commits are put off where that is asked for."""
    path = tmp_path / "mlflow.db"
    make_database(path)
    with shared_connection():
        yield mlflow.MlflowClient(f"sqlite:///{path}"), path
    SqlAlchemyStore._engine_map.pop(f"sqlite:///{path}").dispose()


def rows(path, table):
    """As another program sees them."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def write(client):
    run = client.create_run("0", tags={"kind": "study"}).info.run_id
    params = [Param(f"p{i}", "1") for i in range(5)]
    metrics = [Metric("loss", i, 0, i) for i in range(50)]
    client.log_batch(run, metrics, params)
    client.log_batch(run, metrics=[Metric("loss", 7.0, 0, 99)])  # another session that writes
    client.set_terminated(run)
    return run


def test_others_see_it_at_the_end_and_whole(store):
    client, path = store
    with one_transaction():
        run = write(client)
        assert rows(path, "runs") == rows(path, "metrics") == rows(path, "params") == 0
        assert len(client.search_runs(["0"])) == 1  # the writer sees it
    assert rows(path, "runs") == 1
    assert rows(path, "metrics") == 51
    assert rows(path, "params") == 5
    assert client.get_run(run).info.status == "FINISHED"
    assert client.get_run(run).data.metrics == {"loss": 7.0}


def test_of_a_block_that_fails_nothing_is_there(store):
    client, path = store
    with pytest.raises(RuntimeError), one_transaction():
        write(client)
        raise RuntimeError
    assert rows(path, "runs") == rows(path, "metrics") == 0
    with one_transaction():
        write(client)
    assert rows(path, "runs") == 1


def test_what_mlflow_rolls_back_is_rolled_back(store):
    """A session that fails undoes what was put off; the block's end commits nothing of it."""
    client, path = store
    with one_transaction():
        run = client.create_run("0").info.run_id
        client.log_param(run, "p", "1")
        with pytest.raises(mlflow.MlflowException):
            client.log_param(run, "p", "2")  # parameters do not change
    assert rows(path, "params") <= 1
    assert rows(path, "runs") <= 1
    assert client.search_runs(["0"]) is not None  # and the connection is of use


def test_without_a_block_each_commit_counts(store):
    client, path = store
    client.create_run("0")
    assert rows(path, "runs") == 1


def test_a_block_within_another_ends_with_it(store):
    client, path = store
    with one_transaction():
        with one_transaction():
            client.create_run("0")
        assert rows(path, "runs") == 0
    assert rows(path, "runs") == 1


def test_elsewhere_nothing_is_put_off(tmp_path):
    """In a process that shares no connection, as a notebook."""
    make_database(tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = mlflow.MlflowClient(uri)
    try:
        with one_transaction():
            client.create_run("0")
            assert rows(tmp_path / "mlflow.db", "runs") == 1
    finally:
        SqlAlchemyStore._engine_map.pop(uri).dispose()
