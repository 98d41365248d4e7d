"""Started from a notebook, in each of the ways in which people do, a launch leaves and says what it does
in a shell. A real kernel runs the cells."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import nbclient
import nbformat
import pytest

from tests.support import ROOT, empty_database, only, runs_in, said, same_results, studies, train

SWEEP = "-m samples=1,2 batches=1 batch_size=16 sampling.step=0.1 heldout=10 model.width=4"
SCRIPT = ROOT / "train.py"
WAYS = {
    "run": f"%run {SCRIPT} {SWEEP}",
    "run in a worker": f"%run {SCRIPT} {SWEEP} hydra/launcher=local_parallel "
    "hydra.launcher.jobs_per_task=2",
    "shell": f"!{sys.executable} {SCRIPT} {SWEEP}",
    "subprocess": "import subprocess\nprint(subprocess.run("
    f"{[sys.executable, str(SCRIPT), *SWEEP.split()]}, capture_output=True, text=True).stdout)",
}


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """{way: (what the cell printed, its folder)}, all from one kernel, and that of a last cell."""
    folders = {way: tmp_path_factory.mktemp(way.replace(" ", "_")) for way in WAYS}
    for folder in folders.values():
        (folder / "mlflow.db").write_bytes(empty_database())
    sources = [f"import os; os.chdir({str(folders[way])!r})\n{code}" for way, code in WAYS.items()]
    sources.append("import matplotlib, sys, signal\n"
                   "matplotlib.get_backend(), type(sys.stdout).__name__, os.environ['MPLBACKEND'], "
                   "signal.getsignal(signal.SIGINT).__name__")  # fmt: skip
    sources.append(f"%run {SCRIPT} sampels=1")
    mine = tmp_path_factory.mktemp("edited")
    (mine / "mine.py").write_text(
        "from srste.estimators.straight_through import StraightThrough\n\n\n"
        "class Mine(StraightThrough):\n    pass\n"
    )
    code = f"%run {SCRIPT} {SWEEP[3:].replace('1,2', '1')} estimator._target_=mine.Mine tracking=none"
    sources.append(f"os.chdir({str(mine)!r})\nsys.path.insert(0, '')\n{code}")
    sources.append(f"open('mine.py', 'a').write('# better\\n')\n{code}")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", allow_errors=True).execute()
    printed = [cell.outputs for cell in notebook.cells]
    names = [*WAYS, "state", "mistake", "first", "edited"]
    return dict(zip(names, printed, strict=True)), folders


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """(what it prints, the folder) of the same launch in a shell."""
    folder = tmp_path_factory.mktemp("in_a_shell")
    (folder / "mlflow.db").write_bytes(empty_database())
    done = train(folder, *SWEEP.split())
    assert done.returncode == 0, done.stderr
    return done.stdout, folder


def text_of(outputs):
    return "".join(o.text for o in outputs if o.output_type == "stream")


def without_moments(text):
    """Without times, identities, and spaces at the ends of lines."""
    text = "\n".join(said(text))
    text = re.sub(r"\[\d{4}-.*?\]|in \d+ s|viewStateShareKey=\w+|created = \S+", "", text)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("way", WAYS)
def test_the_same_files_report_and_runs(cells, shell, way):
    outputs, folders = cells
    failed = [o for o in outputs[way] if o.output_type == "error"]
    assert not failed, failed
    root, expected = only(folders[way] / "multirun"), only(shell[1] / "multirun")

    def names(folder):
        paths = (p.relative_to(folder) for p in folder.rglob("*"))
        return {p for p in paths if p.parts[0] not in (".submitit", ".reports")}

    assert names(root) == names(expected)
    same_results(studies(root), studies(expected))
    for name in ("results.csv", "table.txt", "note.log", "figure.svg", "report/studies.csv"):
        assert (root / name).read_bytes() == (expected / name).read_bytes(), name
    runs = runs_in(f"sqlite:///{folders[way]}/mlflow.db")
    kinds = [run.data.tags["kind"] for run in runs]
    assert sorted(kinds) == ["launch", "study", "study", "study", "summary", "summary"]
    launch = runs[kinds.index("launch")]
    assert "sr-STE" in launch.data.tags["mlflow.note.content"]
    assert (
        json.loads((root / "launch.json").read_text())["id"] == launch.data.tags["mlflow.srste.launch"]
    )


def test_run_in_the_kernel_prints_what_a_shell_shows(cells, shell):
    assert without_moments(text_of(cells[0]["run"])) == without_moments(shell[0])


@pytest.mark.parametrize("way", ["run in a worker", "shell", "subprocess"])
def test_the_other_ways_show_the_table_and_the_link(cells, way):
    text = text_of(cells[0][way])
    assert "Loss after the best step" in text
    assert "Charts: run" in text
    assert "Traceback" not in text


def test_the_kernel_is_left_as_it_was(cells):
    (output,) = cells[0]["state"]
    state = output.data["text/plain"]
    assert "inline" in state.split(",")[0]  # figures of the notebook still go into it
    assert "OutStream" in state
    assert "module://matplotlib_inline.backend_inline" in state
    assert "default_int_handler" in state


def test_a_mistake_is_one_line_there_too(cells):
    outputs = cells[0]["mistake"]
    assert text_of(outputs) == "train.py: sampels=1: no such key; did you mean samples?\n"
    (error,) = (o for o in outputs if o.output_type == "error")
    assert (error.ename, error.evalue) == ("SystemExit", "2")


def test_code_that_was_edited_in_between_is_not_run_as_it_was(cells):
    assert "2 studies" in text_of(cells[0]["first"])
    assert text_of(cells[0]["edited"]) == (
        "train.py: mine: its file has changed since this process imported it; restart the kernel, or "
        "run !python train.py, which is a process of its own\n"
    )


@pytest.mark.parametrize("backend", ["no_such_backend", "module://matplotlib_inline.backend_inline", ""])
def test_any_backend_that_the_environment_names(tmp_path, backend):
    """As a notebook sets it for all processes that it starts, whether or not these know it."""
    code = ("import srste.commands.report\n"
            "import sys; from pathlib import Path\n"
            "from srste.report.figures.style import save\n"
            "from matplotlib.figure import Figure\n"
            "figure = Figure(); figure.subplots().set_title('x')\n"
            "save(figure, Path('figure'))\n"
            "assert 'matplotlib.pyplot' not in sys.modules\n")  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"MPLBACKEND": backend, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "figure.png").stat().st_size > 1000
