"""Files and folders that are either complete or absent."""

import csv
import io
import json
import os
import re
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil
import yaml

_TEMPORARY = re.compile(r"\..+\.(?P<pid>\d+)\.srste\.tmp")


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``: readers see either the old file or the complete new one.

    The content is on the disk before the name is; a write that fails leaves nothing behind.
    """
    temporary = temporary_beside(path)
    temporary.unlink(missing_ok=True)  # left by an earlier process with the same process id
    try:
        write_through(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_through(path: Path, content: bytes) -> None:
    """Write a new file and wait until the disk has it. Raises: FileExistsError."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def checksum(content: bytes) -> str:
    """Return the SHA-256 of the content, hexadecimal."""
    return sha256(content).hexdigest()


def hash_of(entries: dict[str, Any]) -> str:
    """Return a hash of the entries, hexadecimal, whatever their order."""
    return checksum(json.dumps(entries, sort_keys=True).encode())


def sealed(entries: dict[str, Any]) -> bytes:
    """Return the JSON of the entries, with its checksum as the last of them."""
    seal = {"checksum": checksum(json.dumps(entries, indent=1).encode())}
    return json.dumps(entries | seal, indent=1).encode()


def unsealed(content: bytes) -> dict[str, Any]:
    """Return the entries of such a JSON. Raises: ValueError saying what is wrong with it."""
    try:
        entries = json.loads(content)
    except ValueError as error:  # not JSON, or not text
        raise ValueError(f"is not JSON ({error})") from error
    if not isinstance(entries, dict) or "checksum" not in entries:
        raise ValueError("does not hold what it should")
    if entries.pop("checksum") != checksum(json.dumps(entries, indent=1).encode()):
        raise ValueError("does not agree with its own checksum")
    return entries


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Return the rows as CSV; None is an empty cell."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def as_yaml(plain: Mapping[str, Any]) -> str:
    """Return plain values as YAML, in their order."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the one in C takes a tenth of the time
    return str(yaml.dump(plain, Dumper=dumper, sort_keys=False))


def temporary_beside(path: Path) -> Path:
    """Return a name beside ``path`` that is unique to this process and host and to srste: a file of
    that name may be removed once its process has ended."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.srste.tmp")


def find_files(root: Path, name: str) -> Iterator[Path]:
    """Yield every file of that name below ``root``, in order of folder, skipping hidden folders."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        if name in files:
            yield Path(folder) / name


def remove_temporaries(
    folder: Path, contents: Collection[str] = (), targets: Collection[str] | None = None
) -> None:
    """Remove from ``folder`` the temporaries of writers that were killed.

    Removed is only what :func:`temporary_beside` has named, is no link, and belongs to no running
    process; of a temporary folder only the files named in ``contents``, and the folder once empty.
    No process of another machine may be writing there.

    Args: targets: names of the files that were being written; None: any.
    """
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        match = _TEMPORARY.fullmatch(entry.name)
        if match is None or entry.is_symlink() or _is_another_process(int(match["pid"])):
            continue
        if targets is not None and not any(entry.name.startswith(f".{name}.") for name in targets):
            continue
        if entry.is_dir():
            remove_folder(Path(entry.path), contents)
        else:
            Path(entry.path).unlink(missing_ok=True)


def remove_folder(folder: Path, contents: Collection[str]) -> None:
    """Remove the files named in ``contents``, and the folder if nothing else is in it."""
    for name in contents:
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # not empty, or not there
        folder.rmdir()


def _is_another_process(pid: int) -> bool:
    return pid != os.getpid() and psutil.pid_exists(pid)


def slug(text: str, longest: int = 80) -> str:
    """Return ``text`` as one safe file name: letters, digits and ``=.,+-`` stay, other characters
    become ``_``. Longer names are cut and end in a hash. Never empty, hidden or a path."""
    name = re.sub(r"[^\w=.,+-]+", "_", text, flags=re.ASCII).strip("_.")
    if not name or len(name) > longest:
        name = f"{name[: longest - 9]}_{checksum(text.encode())[:8]}".lstrip("_")
    return name
