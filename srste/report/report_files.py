"""The files of a report: a page and, beside it, a folder of its figures and tables."""

from pathlib import Path

from srste.errors import UserError

NAME = "report.html"
_TITLE = b"<title>srste: "
_HEAD = 1_000  # bytes of a page that contain its title


def folder_of(page: Path) -> Path:
    """Return the folder of the page's figures and tables."""
    return page.with_suffix("")


def refuse_foreign_report(page: Path) -> None:
    """Raise UserError if a report would overwrite other files."""
    try:
        with page.open("rb") as file:
            start = file.read(_HEAD)
    except FileNotFoundError:
        folder = folder_of(page)
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(
                f"{page}: {folder.name} beside it holds files that are no report's; move them "
                "elsewhere, or name another page by --out"
            ) from None
        return
    except OSError as error:
        raise UserError(f"{page}: must be a file that can be written ({error.strerror})") from error
    if _TITLE not in start:
        raise UserError(
            f"{page}: is not a report of srste, which would be written over it; move it elsewhere, or "
            "name another page by --out"
        )
