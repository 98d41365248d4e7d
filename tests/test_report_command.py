"""`srste report`: of folders that were copied, of several, and what it refuses."""

import numpy as np
import pytest

from srste.commands.main import main
from tests.records_by_hand import network, networks, written


@pytest.fixture(autouse=True, scope="module")
def _few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("srste.analysis.statistics.bootstrap.RESAMPLES", 499)
        yield


@pytest.fixture(scope="module")
def eight():
    return networks(8)


def run(capsys, *arguments):
    code = main(["report", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_of_a_folder_without_a_launch(eight, tmp_path, capsys):
    written(tmp_path / "copied", eight)
    code, out, err = run(capsys, tmp_path / "copied", "--samples", 2)
    assert (code, err) == (0, "")
    assert (tmp_path / "copied" / "report.html").exists()
    assert "sr-STE takes a better step than STE" in out
    page = (tmp_path / "copied" / "report.html").read_text()
    assert "at N = 2, fixed beforehand" in page


def test_of_two_folders_and_a_damaged_record(eight, tmp_path, capsys):
    half = [r for r in eight if r.identity["seed"] < 4]
    written(tmp_path / "a", half)
    written(tmp_path / "b", [r for r in eight if r not in half])
    (tmp_path / "b" / "0" / "trials.packed.parquet").write_bytes(b"PAR1")
    out_at = tmp_path / "x" / "both.html"
    code, out, _ = run(capsys, tmp_path / "a", tmp_path / "b", "--out", out_at)
    assert code == 0
    assert "Damaged or of another version, and passed over: 1 records" in out
    assert "mean over 8 networks" in out
    assert (tmp_path / "x" / "both" / "verdicts.md").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--out", "x.pdf"], "--out=x.pdf: must end in .html"),
        (["--samples", "0"], "--samples=0: must be a whole number >= 1"),
        (["--samples", "3"], "--samples=3: must be one of 1, 2, 5"),
        (["--log", "nope.log"], "nope.log: must be a log in the note's line format"),
    ],
)
def test_bad_input_in_one_line(eight, tmp_path, capsys, arguments, says):
    written(tmp_path / "r", network(0, np.random.default_rng(1)))
    code, _, err = run(capsys, tmp_path / "r", *arguments)
    assert code == 2
    assert says in err
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.rglob("*.html"))


def test_a_folder_without_records(tmp_path, capsys):
    code, _, err = run(capsys, tmp_path)
    assert code == 2
    assert "holds no records of studies; name the folder of a launch" in err
