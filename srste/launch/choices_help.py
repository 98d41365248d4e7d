"""The choices of every group for `--help`, each with the first sentence of its file's comment."""

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra

_NOT_CHOICES = ("hydra/help",)


def choices_help() -> str:
    """Return a line a choice, by group, of all folders that the command line names."""
    lines = []
    for group, files in sorted(_groups().items()):
        lines.append(group)
        lines += [f"  {name:20} {first_sentence(file)}".rstrip() for name, file in sorted(files.items())]
    return "\n".join(lines)


def _groups() -> dict[str, dict[str, Path]]:
    groups: dict[str, dict[str, Path]] = {}
    for folder in _folders():
        for file in folder.rglob("*.yaml"):
            group = file.parent.relative_to(folder).as_posix()
            if group != "." and group not in _NOT_CHOICES:
                groups.setdefault(group, {})[file.stem] = file
    return groups


def _folders() -> Iterator[Path]:
    """Yield the folders of configurations that are files; Hydra's own are in its package."""
    for source in GlobalHydra.instance().config_loader().get_search_path().get_path():
        folder = source.path.removeprefix("file://")
        if "://" not in folder and Path(folder).is_dir():
            yield Path(folder)


def first_sentence(file: Path) -> str:
    """Return the first sentence of the comment that a file begins with, without the commands that may
    stand above it; "" if there is none."""
    comment = takewhile(lambda line: line.startswith("#"), file.read_text(encoding="utf-8").splitlines())
    paragraphs = "\n".join(line.removeprefix("#").strip() for line in comment).split("\n\n")
    words = next((p for p in paragraphs if not p.startswith(("@package", "python "))), "")
    return " ".join(words.split()).split(". ")[0].rstrip(".")
