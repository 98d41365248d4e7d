"""What comes from outside, names, paths and messages, is shown as it is: no markup, no formula."""

from __future__ import annotations

import io
from html import unescape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import escape
from rich.table import Table

from srste.analysis.alarms import MEANING, SMALLEST, Alarm
from srste.commands.audit.audit import audit
from srste.errors import first_line, printable
from srste.launch.results import LaunchResults, show_lost
from srste.note2021.log import read_note_log
from srste.report.chapters import chapters
from srste.report.conditions import conditions
from srste.report.console import console
from srste.report.description import description, escaped
from srste.report.launch_files import write_files
from srste.report.page import Facts
from srste.report.report import write_report
from srste.report.table import text_table
from srste.report.terminal import print_alarms
from srste.store.manifest import Contents, JobContents, Launch
from tests.test_report import study

NAMES = [
    "sign[x]", "[/]", "[bold red]x[/bold red]", "[/data/w.pt]", ":smile:", "a$b$c", "$\\frac{$", "_x",
    "a|b", "<script>alert(1)</script>", "`x`",
    "~~~~~~", "*x*", "\N{GREEK SMALL LETTER ALPHA}", "名", "]",
]  # fmt: skip


def printed(show):
    buffer = io.StringIO()
    show(console(buffer))
    return buffer.getvalue()


@settings(max_examples=200)
@given(
    text=st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Me"])
    )
)
def test_a_console_prints_any_text_as_it_is(text):
    assert printed(lambda c: c.print(text, soft_wrap=True)).rstrip("\n") == text
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text, style="bold")
    assert printed(lambda c: c.print(table)).count(text) >= 3 or not text.strip()


@pytest.mark.parametrize("name", NAMES)
def test_a_job_that_failed_and_why(tmp_path, name):
    contents = Contents([JobContents(name, {"a" * 64: f"{name}/studies/batch-01"}, [], None)])
    launch = Launch("1" * 32, name, [], True, f"python train.py {name}", "", {"name": "none"})
    results = LaunchResults(tmp_path, launch, contents, {}, [])
    out = printed(lambda c: show_lost(results, {name: f"OSError: no weights found in {name}"}, c))
    assert f"OSError: no weights found in {name}" in out
    assert out.count(name) == 3
    assert "1 of 1 jobs did not get through" in out


@pytest.mark.parametrize("name", NAMES)
def test_tables_alarms_verdicts_figures_and_the_page(tmp_path, name):
    records = [study("ste", None, b, 0.5) for b in (1, 2)]
    records += [study(name, n, b, 0.4 + 0.01 * n) for n in (1, 2) for b in (1, 2)]
    arranged = conditions(records)
    assert name in text_table(arranged[0])
    alarm = Alarm(SMALLEST, f"{name} batch 1", name)
    assert f"first in {name} batch 1: {name} ({MEANING[SMALLEST]})" in printed(
        lambda c: print_alarms([alarm], c)
    )
    assert f"| {escaped(name)} |" in description(chapters(arranged), "", "#")
    files = write_files(arranged, tmp_path)
    assert all(path.stat().st_size for path in files)
    # As an SVG has it for those that look for words; the glyphs are paths.
    assert name.strip() in unescape((tmp_path / "figure.svg").read_text())
    assert {line.label for line in read_note_log(tmp_path / "note.log")} == {"STE", name}
    page = tmp_path / "report.html"
    write_report([], {}, page, Facts(name, f"python train.py {name}"))
    assert f"<code>python train.py {escape(name)}</code>" in page.read_text()


@pytest.mark.parametrize("label", ["sign[x]", "[/]x", "[bold]"])
def test_labels_of_a_log(tmp_path, label):
    log = tmp_path / "own.log"
    ends = {"STE": "lr is 0.1, the best STE-loss is 0.5.",
            label: "samples is 1 and lr is 0.1, the best STE-loss is 0.4.",
            "other": "samples is 1 and lr is 0.2, the best STE-loss is 0.4."}  # fmt: skip
    lines = [f"[{name}]Original loss is 0.7, and when {end}\n" for name, end in ends.items()]
    log.write_text("".join(lines))
    out = printed(lambda c: audit([log], None, False, c))
    assert f"[{label}]" in out


def test_what_would_break_a_line_or_colour_it_is_escaped():
    assert printable("a\nb\x1b[31mred\r\t\udcff é") == "a\\nb\\x1b[31mred\\r\\t\\udcff é"
    assert first_line(OSError("in [/data/w.pt]\nand more")) == "in [/data/w.pt]"
    assert first_line(ValueError("\x1b[31mred")) == "\\x1b[31mred"
