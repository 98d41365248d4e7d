"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

SET_ASIDE = ".set-aside"
"""The folder, beside what was moved there, of what is no longer used but not thrown away either."""

_TEMPORARY = re.compile(r"\..+\.tmp")


def write_atomically(path: Path, content: bytes) -> None:
    """Writes ``content`` to ``path``, so that whoever looks sees the old file or the whole new one.

    The content is on the disk before the name is; a write that fails leaves nothing behind.
    """
    temporary = temporary_beside(path)
    try:
        write_through(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_through(path: Path, content: bytes) -> None:
    """Writes ``content`` to ``path`` and waits until the disk has it."""
    with path.open("wb") as file:
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
    """A name beside ``path`` that no other process of any host uses at the same time."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")


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


def tidy(root: Path) -> None:
    """Removes what writers that were killed left half written below ``root``."""
    for folder, folders, files in os.walk(root):
        for name in filter(_TEMPORARY.fullmatch, files):
            (Path(folder) / name).unlink(missing_ok=True)
        for name in filter(_TEMPORARY.fullmatch, folders):
            shutil.rmtree(Path(folder) / name, ignore_errors=True)
        folders[:] = [f for f in folders if not f.startswith(".")]


def slug(text: str, longest: int = 80) -> str:
    """``text`` as one safe file name: letters, digits and ``=.,+-`` stay, the rest becomes ``_``.

    Cut to ``longest`` characters, and then told apart by a hash of the whole. Never empty, never
    hidden, never a path.
    """
    name = re.sub(r"[^\w=.,+-]+", "_", text, flags=re.ASCII).strip("_.")
    if not name or len(name) > longest:
        name = f"{name[: longest - 9]}_{sha256(text.encode()).hexdigest()[:8]}".lstrip("_")
    return name
