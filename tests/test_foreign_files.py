"""A launch touches nothing but what is its own: files of others, wherever they lie below its folder, are
bit for bit the same after any command."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srste.errors import UserError
from srste.launch.launch_folder import refuse_foreign_files, tidy
from srste.report.report_files import refuse_foreign_report
from srste.store import records
from srste.store.files import remove_temporaries, temporary_beside
from srste.store.manifest import CONTENTS, LAUNCH, Contents, JobContents
from tests.support import only, said, srste, start, studies, train, wait_for

QUICK = ["batches=1", "batch_size=16", "sampling.step=0.1", "heldout=0", "model.width=4"]


def snapshot(folder):
    """What lies there: names, contents, where links lead, modes; nothing is followed."""
    contents = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_symlink():
            contents[path] = ("link", str(path.readlink()))
        elif path.is_dir():
            contents[path] = ("folder", path.stat().st_mode)
        else:
            contents[path] = ("file", path.read_bytes(), path.stat().st_mode)
    return contents


def same(before, folder):
    """Everything of before is there as it was; there may be more."""
    after = snapshot(folder)
    assert {path: after.get(path) for path in before} == before


def process_that_ended():
    """Its number."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


NAMES = st.sampled_from(
    [".draft.tmp", "a.tmp", ".b.1.tmp", ".results.csv.host.12.tmp", ".x.srste.tmp", ".x.h.y.srste.tmp",
     ".set-aside", ".submitit", ".reports", ".git", "mlruns", "1", "artifacts", "record.json",
     "trials.packed.parquet", "studies", "batch-01", "samples=7", "report", "pretraining", "shared",
     "ste-batch-01", "an é ,='?#[]{}%", ".lock", "x"]
)  # fmt: skip
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=4).map(tuple),
    st.one_of(st.binary(max_size=8), st.just("link"), st.just("link to nothing")),
    max_size=8,
)


def plant(folder, tree, outside):
    """Makes what of the tree can be made."""
    for names, content in tree.items():
        path = folder.joinpath(*names)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                path.symlink_to(outside if content == "link" else outside / "nothing")
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue


CONTENT = Contents(
    [JobContents(f"samples={n}", {f"{n:x}" * 64: f"samples={n}/studies/batch-01",
                                  "a" * 64: "shared/ste-batch-01-aaaaaaaaaaaa"}, [], None)
     for n in (1, 2)]
)  # fmt: skip


@given(tree=TREES)
def test_tidying_and_checking_touch_no_file_of_others(tmp_path_factory, tree):
    top = tmp_path_factory.mktemp("tree")
    outside, root = top / "outside", top / "root"
    outside.mkdir()
    root.mkdir()
    (outside / ".y.host.1.srste.tmp").write_bytes(b"1")  # reached by a link, not below the folder
    plant(root, tree, outside)
    before = snapshot(top)
    tidy(root, CONTENT)
    try:
        refuse_foreign_files("hydra.sweep.dir", root, CONTENT, True)
    except UserError as error:
        assert "\n" not in str(error)
    assert snapshot(top) == before


def test_what_a_killed_writer_left_is_removed_and_only_that(tmp_path):
    gone, host = process_that_ended(), socket.gethostname()
    job = tmp_path / "samples=1" / "studies"
    job.mkdir(parents=True)
    ours = [
        tmp_path / f".results.csv.{host}.{gone}.srste.tmp",
        job / f".batch-01.{host}.{gone}.srste.tmp",
    ]
    ours[0].write_text("half")
    ours[1].mkdir()
    (ours[1] / records.TRIALS).write_text("half")
    running = subprocess.Popen(["sleep", "60"])
    kept = [
        tmp_path / f".results.csv.{host}.{running.pid}.srste.tmp",  # another process writes it now
        tmp_path / f".results.csv.{host}.{gone}.tmp",  # the name is not of our form
        tmp_path / f"results.csv.{host}.{gone}.srste.tmp",
        tmp_path
        / "elsewhere"
        / f".results.csv.{host}.{gone}.srste.tmp",  # nothing of the launch is there
    ]
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_text("theirs")
    with_more = job / f".batch-02.{host}.{gone}.srste.tmp"  # a folder that somebody put something into
    with_more.mkdir()
    (with_more / "notes.txt").write_text("theirs")
    link = job / f".batch-03.{host}.{gone}.srste.tmp"
    link.symlink_to(tmp_path / "elsewhere")
    try:
        tidy(tmp_path, CONTENT)
    finally:
        running.kill()
        running.wait()
    assert not any(path.exists() for path in ours)
    assert all(path.read_text() == "theirs" for path in kept)
    assert (with_more / "notes.txt").read_text() == "theirs"
    assert link.is_symlink()


def test_what_writes_now_gives_names_that_are_recognised(tmp_path):
    """Our own number is that of an earlier process."""
    temporary_beside(tmp_path / "x.json").write_text("half")
    (tmp_path / "y.json").write_text("whole")
    remove_temporaries(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["y.json"]


FOREIGN = {
    ".draft.tmp/a": "x",
    ".hidden/.b.tmp": "x",
    "notes/draft.tmp": "x",
    f".results.csv.{socket.gethostname()}.1.tmp": "x",
    ".lock": "a lock file of somebody else, with something in it",
    "samples=9/studies/batch-01/record.json": '{"key": "other"}',
    "shared/other-batch-01/record.json": "not even JSON",
    "mlruns/5/abc/artifacts/record.json": "{}",
    "mlruns/5/abc/artifacts/trials.parquet": "",
    "multirun/another/launch.json": "{}",
    "multirun/another/.set-aside/x": "x",
    "mlflow.db.bak": "x",
    "x.db.lock": "x",
    "an é ,='?#[]{}%/a": "x",
}


def foreign_tree(root, outside):
    outside.mkdir()
    (outside / "precious.tmp").write_text("x")
    for name, content in FOREIGN.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (root / "a link").symlink_to(outside)
    (root / ".a link.tmp").symlink_to(outside / "precious.tmp")


def test_no_command_touches_files_of_others(tmp_path):
    """One folder for everything: the launch's own, the store's, and other people's."""
    root = tmp_path / "root"
    root.mkdir()
    foreign_tree(root, tmp_path / "outside")
    before = snapshot(tmp_path)
    first = ["-m", "samples=1,2", *QUICK, "hydra.sweep.dir=."]
    assert train(root, *first).returncode == 0
    same(before, tmp_path)
    ours = snapshot(root / "mlruns")  # from here on what MLflow holds is not ours to move either
    again = train(root, *first, "resume=false", "tracking=none", "report=false")
    assert again.returncode == 0, again.stderr
    assert "reused" not in again.stdout
    same(before | ours, tmp_path)
    killed = start(root, *first, "resume=false", "tracking=none")
    time.sleep(0.5)
    killed.kill()
    killed.communicate()
    same(before | ours, tmp_path)
    assert train(root, *first, "tracking=none", "report=false").returncode == 0
    assert srste(root, "report", ".").returncode == 0
    assert srste(root, "sync", ".").returncode == 2  # multirun/another is no launch that can be read
    same(before, tmp_path)


def test_another_launch_below_the_folder_keeps_its_records(tmp_path):
    assert train(tmp_path, "-m", "samples=1,2", *QUICK, "tracking=none", "report=false").returncode == 0
    before = snapshot(tmp_path / "multirun")
    done = train(tmp_path, "-m", "samples=1,2", *QUICK, "tracking=none", "resume=false",
                 "hydra.sweep.dir=multirun")  # fmt: skip
    assert done.returncode == 0, done.stderr
    same(before, tmp_path / "multirun")
    assert "3 studies, 3 trials" not in done.stdout
    assert len([p for p in tmp_path.rglob(records.RECORD) if ".set-aside" not in p.parts]) == 6


def test_another_command_in_the_folder_of_a_launch_is_refused(tmp_path):
    first = ["-m", "samples=1,2", *QUICK, "hydra.sweep.dir=shared"]
    assert train(tmp_path, *first, "tracking=none").returncode == 0
    before = snapshot(tmp_path)
    for other in (["estimator=tilted_ste", "samples=1,3"], ["samples=1"], ["samples=1,2", "seed=1"]):
        done = train(tmp_path, "-m", *other, *QUICK, "hydra.sweep.dir=shared", "tracking=none")
        assert done.returncode == 2
        assert len(said(done.stderr)) == 1
        assert (
            "hydra.sweep.dir=shared: holds the launch of another command (python train.py -m"
            in done.stderr
        )
        assert snapshot(tmp_path) == before
    # The same in another order, and with settings that change no result.
    same_one = ["-m", *QUICK[::-1], "samples=1,...,2", "hydra.sweep.dir=shared", "report=false"]
    done = train(tmp_path, *same_one, "tracking=none")
    assert done.returncode == 0, done.stderr
    assert "3 reused" in done.stdout


@pytest.mark.parametrize(
    "name",
    ["results.csv", "table.txt", "figure_seed=1.png", "note.log", LAUNCH, "multirun.yaml",
     ".hydra/config.yaml", "train.log"],
)  # fmt: skip
def test_a_folder_with_files_of_our_names_is_refused(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("theirs")
    done = train(tmp_path, *QUICK, "tracking=none", "hydra.run.dir=.")
    assert done.returncode == 2
    assert len(said(done.stderr)) == 1
    assert f"hydra.run.dir=.: holds {name}, over which a launch would write" in done.stderr
    assert (tmp_path / name).read_text() == "theirs"
    assert not list(tmp_path.rglob(records.RECORD))


@pytest.mark.parametrize("name", ["note.log", "note_seed=1.log", "results.csv"])
def test_so_is_the_folder_of_a_sweep(tmp_path, name):
    (tmp_path / name).write_text("theirs")
    with pytest.raises(UserError, match=rf"holds {name}, over which a launch would write"):
        refuse_foreign_files("hydra.sweep.dir", tmp_path, CONTENT, report=False)


def test_a_link_of_our_name_that_leads_nowhere_is_refused_too(tmp_path):
    (tmp_path / "results.csv").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match=r"holds results\.csv, over which a launch would write"):
        refuse_foreign_files("hydra.run.dir", tmp_path, CONTENT, report=False)


def test_what_lies_in_the_place_of_a_record_is_refused_or_kept(tmp_path):
    assert train(tmp_path, "-m", "samples=1,2", *QUICK, "tracking=none", "report=false").returncode == 0
    root = only(tmp_path / "multirun")
    folder = root / "samples=1" / "studies" / "batch-01"
    (folder / "thoughts.md").write_text("theirs")
    done = train(tmp_path, "-m", "samples=1,2", *QUICK, "tracking=none", "resume=false")
    assert done.returncode == 2
    assert len(said(done.stderr)) == 1
    assert "samples=1/studies/batch-01 is for a record, and holds thoughts.md" in done.stderr
    assert (folder / "thoughts.md").read_text() == "theirs"
    assert len(studies(tmp_path)) == 3
    # Put there while the launch runs, it is one failed job.
    other = tmp_path / "other"
    other.mkdir()
    (other / "thoughts.md").write_text("theirs")
    with pytest.raises(OSError, match=r"other holds thoughts.md, which is not srste's"):
        records.set_record_aside(other)


def test_a_page_that_is_no_report_is_not_written_over(tmp_path):
    assert train(tmp_path, "-m", "samples=1,2", *QUICK, "tracking=none", "report=false").returncode == 0
    page = tmp_path / "multirun" / "report.html"
    page.write_text("<html>theirs</html>")
    done = srste(tmp_path, "report", "multirun")
    assert done.returncode == 2
    assert "is not a report of srste" in done.stderr
    assert page.read_text() == "<html>theirs</html>"
    page.unlink()
    (page.parent / "report").mkdir()
    (page.parent / "report" / "studies.csv").write_text("theirs")
    done = srste(tmp_path, "report", "multirun")
    assert done.returncode == 2
    assert "report beside it holds files that are no report's" in done.stderr
    assert (page.parent / "report" / "studies.csv").read_text() == "theirs"
    (page.parent / "report" / "studies.csv").unlink()
    for _ in range(2):
        assert srste(tmp_path, "report", "multirun").returncode == 0
    refuse_foreign_report(page)


def test_killed_in_the_middle_it_leaves_files_of_others_alone(tmp_path):
    slow = [
        "samples=1,2,...,15",
        "sampling.step=1e-3",
        "heldout=0",
        "tracking=none",
        "hydra.sweep.dir=.",
    ]
    root = tmp_path / "root"
    root.mkdir()
    foreign_tree(root, tmp_path / "outside")
    before = snapshot(tmp_path)
    process = start(root, "-m", *slow, "report=false")
    wait_for(process, root / "shared", "ste-*/record.json", 5)
    process.kill()
    process.communicate()
    same(before, tmp_path)
    manifest = json.loads((root / CONTENTS).read_text())
    assert len(manifest["jobs"]) == 15
    done = train(root, "-m", *slow, "report=false", *[f"batches={1}"])
    assert done.returncode == 2  # another command
    same(before, tmp_path)


def test_of_a_cache_that_others_write_only_the_key_s_leftovers_are_removed(tmp_path):
    temporary_beside(tmp_path / "aa.pt").write_bytes(b"half")
    temporary_beside(tmp_path / "bb.pt").write_bytes(b"another's")
    remove_temporaries(tmp_path, targets=("aa.pt", "aa.json"))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"another's"]
