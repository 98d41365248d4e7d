"""The trials of a study as Parquet: packed, in records; and as a table that people open, in MLflow.

A grid of 50,000 losses is smooth between its breakpoints. Of neighbours, seen as 64-bit integers, the
second differences are mostly small, and compress to a quarter of the table's size, without loss.
"""

import io

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from srste.sampling import Trials

_BYTES_BY_PLACE = "BYTE_STREAM_SPLIT"
"""Small integers, and neighbouring floats, differ in few of their bytes; the encoding puts those of a
place together."""


def packed(trials: Trials) -> bytes:
    """Return the trials as Parquet: the second differences, zigzag, of the bits of lr and post_loss."""
    table = pa.table(
        {"lr": _differences(trials.lr), "post_loss": _differences(trials.post_loss)},
        metadata={
            "pre_loss": float(trials.pre_loss).hex(),
            "distribution": optuna.distributions.distribution_to_json(trials.distribution),
            "values": "second differences of the bits of float64, zigzag",
        },
    )
    return _parquet(
        table, use_dictionary=False, column_encoding=dict.fromkeys(table.column_names, _BYTES_BY_PLACE)
    )


def unpacked(content: bytes) -> Trials:
    """Return the trials of such a table, bit for bit."""
    table = pq.read_table(io.BytesIO(content))
    metadata = table.schema.metadata
    distribution = optuna.distributions.json_to_distribution(metadata[b"distribution"].decode())
    assert isinstance(distribution, optuna.distributions.FloatDistribution)
    return Trials(
        lr=_values(table["lr"].to_numpy()),
        post_loss=_values(table["post_loss"].to_numpy()),
        pre_loss=float.fromhex(metadata[b"pre_loss"].decode()),
        distribution=distribution,
    )


def as_table(trials: Trials) -> bytes:
    """Return the trials as Parquet for other programs, a row each: number, lr, pre_loss, post_loss,
    failed."""
    table = pa.table(
        {
            "number": np.arange(len(trials), dtype=np.int32),
            "lr": trials.lr,
            "pre_loss": np.full(len(trials), trials.pre_loss),
            "post_loss": trials.post_loss,
            "failed": trials.failed,
        }
    )
    encoding = {"number": "DELTA_BINARY_PACKED", "lr": _BYTES_BY_PLACE, "post_loss": _BYTES_BY_PLACE}
    return _parquet(table, use_dictionary=["pre_loss"], column_encoding=encoding)


def _parquet(table: pa.Table, **encodings: object) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", compression_level=3, **encodings)
    return buffer.getvalue()


def _differences(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the second differences of the bits, modulo 2^64, with the sign in the lowest bit."""
    bits = np.ascontiguousarray(values, dtype=np.float64).view(np.int64)
    second = np.diff(bits, n=2, prepend=np.zeros(2, np.int64))
    return (second << 1) ^ (second >> 63)


def _values(zigzag: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the numbers of which these are the differences."""
    second = (zigzag.view(np.uint64) >> np.uint64(1)).view(np.int64) ^ -(zigzag & 1)
    return np.cumsum(np.cumsum(second)).view(np.float64)
