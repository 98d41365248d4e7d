"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import re
from hashlib import sha256
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Writes ``content`` to ``path``, so that whoever looks sees the old file or the whole new one.

    The content is on the disk before the name is; a write that fails leaves nothing behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def slug(text: str, longest: int = 80) -> str:
    """``text`` as one safe file name: letters, digits and ``=.,+-`` stay, the rest becomes ``_``.

    Cut to ``longest`` characters, and then told apart by a hash of the whole. Never empty, never
    hidden, never a path.
    """
    name = re.sub(r"[^\w=.,+-]+", "_", text, flags=re.ASCII).strip("_.")
    if not name or len(name) > longest:
        name = f"{name[: longest - 9]}_{sha256(text.encode()).hexdigest()[:8]}".lstrip("_")
    return name
