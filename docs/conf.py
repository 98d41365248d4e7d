"""The documentation site, built by Sphinx: `make docs`.

Sphinx with furo rather than MkDocs: it checks every reference while it builds, makes the pages of the
API from the docstrings, and its pages and their search work as files, without a server or a network.
"""

import os
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
# Notebooks call the commands of this environment, as in an activated one.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

from docstrings import EQUATIONS, parts

import srste

project = "srste"
author = "the authors of srste"
release = version = srste.__version__
html_show_copyright = False
html_title = f"srste {release}"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build", "images"]
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

# Markdown: links between pages are checked, headings can be linked to.
myst_heading_anchors = 4
nb_execution_mode = "force"  # what it shows is what the code does now
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True
copybutton_exclude = ".linenos, .gp, .go"

# The API, from docstrings.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": False}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
default_role = "code"


def _as_fields(_: Any, __: str, ___: str, ____: Any, _____: Any, lines: list[str]) -> None:
    """Turn the labelled parts of a docstring into a field list; see docs/docstrings.py."""
    written: list[str] = []
    for label, content in parts("\n".join(lines)):
        text = _escaped(content)
        if not label:
            written += [*_listed(text), ""]
        elif label in EQUATIONS:
            written += [
                f":{label}:",
                *(f"   | {_literal(line)}" for line in content if line.strip()),
                "",
            ]
        else:
            entries = _listed([line.strip() for line in text])
            written += [f":{label}:", *(f"   {line}" for line in entries), ""]
    lines[:] = written


def _literal(line: str) -> str:
    return f"``{line.strip()}``" if "`" not in line else line.strip()


def _escaped(lines: list[str]) -> list[str]:
    """Escape what reStructuredText would take for markup, outside of code and examples."""
    escaped = []
    for line in lines:
        if line.lstrip().startswith((">>>", "...")):
            escaped.append(line)
            continue
        pieces = re.split(r"(``.*?``|`[^`]*`)", line)
        pieces[::2] = [re.sub(r"([*|]|\w_(?=\W|$))", r"\\\1", piece) for piece in pieces[::2]]
        escaped.append("".join(pieces))
    return escaped


def _listed(lines: list[str]) -> list[str]:
    """Make a list of the lines that say what a name means, "lr: where it is" and what follows it."""
    listed: list[str] = []
    within = False
    for line in lines:
        entry = re.match(r"((?:\w+, )*\w+): +(.*)", line)
        if entry and not re.match(r"(Note|In|So|By|As)\b", line):
            listed += ([] if within else [""]) + [f"* ``{entry[1]}``: {entry[2]}"]
            within = True
        elif within and line.strip():
            listed.append(f"  {line.strip()}")
        else:
            listed += ([""] if within else []) + [line]
            within = False
    return listed


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", _as_fields)
