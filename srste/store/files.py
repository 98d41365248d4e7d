"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import json
import os
import re
import socket
import uuid
from collections.abc import Collection, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil

SET_ASIDE = ".set-aside"
"""The folder, beside what was moved there, of what is no longer used but not thrown away either."""

_TEMPORARY = re.compile(r"\..+\.(?P<pid>\d+)\.srste\.tmp")


def write_atomically(path: Path, content: bytes) -> None:
    """Writes ``content`` to ``path``, so that whoever looks sees the old file or the whole new one.

    The content is on the disk before the name is; a write that fails leaves nothing behind.
    """
    temporary = temporary_beside(path)
    temporary.unlink(missing_ok=True)  # an earlier process of that number may have left one
    try:
        write_through(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_through(path: Path, content: bytes) -> None:
    """Writes ``content`` to a new file and waits until the disk has it. Raises: FileExistsError."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sealed(plain: dict[str, Any]) -> bytes:
    """JSON of the entries, its own checksum the last of them."""
    text = json.dumps(plain, indent=1)
    return json.dumps(plain | {"checksum": sha256(text.encode()).hexdigest()}, indent=1).encode()


def unsealed(content: bytes) -> dict[str, Any]:
    """The entries of such a JSON. Raises: ValueError with what is wrong with it."""
    try:
        plain = json.loads(content)
    except ValueError as error:  # not JSON, or not text
        raise ValueError(f"is not JSON ({error})") from error
    if not isinstance(plain, dict) or "checksum" not in plain:
        raise ValueError("does not hold what it should")
    noted = plain.pop("checksum")
    if noted != sha256(json.dumps(plain, indent=1).encode()).hexdigest():
        raise ValueError("does not agree with its own checksum")
    return plain


def temporary_beside(path: Path) -> Path:
    """A name beside ``path`` that no other process of any host uses at the same time, and that no other
    program gives: what bears it may be removed once its process has ended."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.srste.tmp")


def set_aside(path: Path) -> Path:
    """Moves a file or folder into ``.set-aside`` beside it, under a name of its own. Returns where."""
    kept = path.parent / SET_ASIDE / f"{path.name}-{uuid.uuid4().hex[:8]}"
    kept.parent.mkdir(exist_ok=True)
    path.rename(kept)
    return kept


def below(root: Path, name: str) -> Iterator[Path]:
    """Every file of that name below ``root``, in order of folder; hidden folders are passed over."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        if name in files:
            yield Path(folder) / name


def remove_temporaries(
    folder: Path, contents: Collection[str] = (), of: Collection[str] | None = None
) -> None:
    """Removes from ``folder`` what writers that were killed left half written there.

    Only what has a name of :func:`temporary_beside`, is no link and belongs to no process of this
    machine that still runs; of a temporary folder only the files named in ``contents``, and itself if it
    is empty then. No process of another machine may be writing there.

    Args: of: the names of what was to be written; None: any.
    """
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        match = _TEMPORARY.fullmatch(entry.name)
        if match is None or entry.is_symlink() or _is_running(int(match["pid"])):
            continue
        if of is not None and not any(entry.name.startswith(f".{name}.") for name in of):
            continue
        if entry.is_dir():
            remove_folder(Path(entry.path), contents)
        else:
            Path(entry.path).unlink(missing_ok=True)


def remove_folder(folder: Path, contents: Collection[str]) -> None:
    """Removes those files of a folder, and the folder if nothing else is in it."""
    for name in contents:
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # it holds something else, or is gone
        folder.rmdir()


def _is_running(pid: int) -> bool:
    """Whether another process of that number runs on this machine."""
    return pid != os.getpid() and psutil.pid_exists(pid)


def slug(text: str, longest: int = 80) -> str:
    """``text`` as one safe file name: letters, digits and ``=.,+-`` stay, the rest becomes ``_``.

    Cut to ``longest`` characters, and then told apart by a hash of the whole. Never empty, never
    hidden, never a path.
    """
    name = re.sub(r"[^\w=.,+-]+", "_", text, flags=re.ASCII).strip("_.")
    if not name or len(name) > longest:
        name = f"{name[: longest - 9]}_{sha256(text.encode()).hexdigest()[:8]}".lstrip("_")
    return name
