"""Files of a launch that are not made again, and when they are."""

import dataclasses

import pytest

from srste.launch.outputs import DRAWN, write_outputs
from srste.launch.results import read_results
from tests.support import SMALL, only, train


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    done = train(folder, "-m", "samples=1,2", *SMALL[:-1], "tracking=none")
    assert done.returncode == 0, done.stderr
    return only(folder / "multirun")


def moments(root):
    """When each file of the tables, figures and report was written."""
    paths = [*root.glob("*.*"), *(root / "report").iterdir()]
    return {path: path.stat().st_mtime_ns for path in paths if path.name != DRAWN}


def again(root):
    outputs = write_outputs(read_results(root), report=True)
    assert not outputs.complaints
    assert outputs.page == root / "report.html"
    assert {path.name for path in outputs.files} >= {"results.csv", "table.txt", "figure.svg", "report"}
    return outputs


def test_nothing_is_made_again_where_nothing_changed(launched):
    before = moments(launched)
    again(launched)
    assert moments(launched) == before


@pytest.mark.parametrize("name", ["figure.svg", "report/curves.png", "results.csv"])
@pytest.mark.parametrize("how", ["edited", "removed"])
def test_what_someone_changed_is_made_again(launched, name, how):
    path = launched / name
    content = path.read_bytes()
    if how == "edited":
        path.write_bytes(content + b"<!-- and more -->")
    else:
        path.unlink()
    again(launched)
    assert path.read_bytes() == content


@pytest.mark.parametrize(("name", "other"), [("_DRAWN_WITH", ("matplotlib",)), ("_CODE", ("report",))])
def test_other_code_and_packages_draw_again(launched, monkeypatch, name, other):
    page = launched / "report.html"
    before = page.stat().st_mtime_ns
    monkeypatch.setattr(f"srste.launch.outputs.{name}", other)
    again(launched)
    assert page.stat().st_mtime_ns > before


def test_other_results_are_drawn(launched):
    page, results = launched / "report.html", read_results(launched)
    before = page.read_bytes()
    fewer = dict(list(results.records.items())[:-1])
    write_outputs(dataclasses.replace(results, records=fewer), report=True)
    assert page.read_bytes() != before
    again(launched)
    assert page.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"made from": 1}'])
def test_a_damaged_note_of_what_was_drawn(launched, content):
    (launched / DRAWN).write_bytes(content)
    page = launched / "report.html"
    before = page.stat().st_mtime_ns
    again(launched)
    assert page.stat().st_mtime_ns > before
