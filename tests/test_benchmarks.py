"""The benchmark scripts run and print what the README quotes. No time is asserted."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys

from tests.support import ROOT, train


def output(script, *options):
    """Of a benchmark, in a process that has the libraries."""
    done = train(ROOT, *options, script=ROOT / script)
    assert done.returncode == 0, done.stderr
    return done.stdout


def output_of_a_fresh_process(*command):
    """Of one that times what a process imports."""
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_loss_curve():
    out = output("benchmarks/loss_curve.py", "--repeats", "1")
    milliseconds, seconds = r" +[\d.]+ ms", r" +[\d.]+ s"
    for name in ("global", "tensor", "row"):
        speed = rf"^{name}({milliseconds}){{2}}({seconds}){{3}}( +[\d,]+){{3}}$"
        floor = rf"^{name} +[\d,]+ +[\d,]+({milliseconds}){{7}} +[\d.]+$"
        assert re.search(speed, out, re.M), out
        assert re.search(floor, out, re.M), out


def test_growth(tmp_path):
    out = output("benchmarks/growth.py", "--quick", "--figure", str(tmp_path / "growth.png"))
    time = r" [\d.]+ (?:ms|s|min|h) \|"
    for axis in ("examples", "width", "hidden layers", "learning rates"):
        assert re.search(rf"^\| {axis} \| global \| tensor \| row \| loop \|", out, re.M)
    assert len(re.findall(rf"^\| [\d,]+ \|(?:{time}){{4}}", out, re.M)) == 10
    assert len(re.findall(r"^\| exponent \|(?: -?[\d.]+ ± inf \|){4}", out, re.M)) == 5
    peak = re.search(r"^peak with 256 examples: ([\d.]+) GiB", out, re.M)
    assert 0 < float(peak[1]) < 2
    assert (tmp_path / "growth.png").stat().st_size > 10_000


def test_start_up():
    # Of what is compiled, all of it would take most of a minute.
    out = output_of_a_fresh_process("benchmarks/start_up.py", "--repeats", "1", "--only", "numba")
    assert re.search(r"^numba +[\d.]+ s +[\d.]+ s$", out, re.M)
    for package in ("numba", "llvmlite"):
        assert re.search(rf"^{package}, installed: \d\d+ MB$", out, re.M)


def test_what_start_up_times_is_there():
    steps = runpy.run_path(str(ROOT / "benchmarks/start_up.py"))["STEPS"]
    output_of_a_fresh_process(
        "-c", "\n".join(f"{before}\n{wanted}" for wanted, before in steps.values())
    )


def test_models():
    out = output("benchmarks/models.py", "--passes", "1")
    for name, loss in (
        ("mlp", "logistic loss"),
        ("residual", "mean squared error"),
        ("conv 28 x 28", "cross-entropy"),
    ):
        row = rf"^{name} +{loss} +\d+ +[\d.]+ s +[\d.]+ +\d+ s +[\d,]+$"
        assert re.search(row, out, re.M)


def test_losses():
    out = output("benchmarks/losses.py", "--examples", "100", "--losses", "cross-entropy")
    row = r"^cross-entropy +100( +[\d.]+ s){4} +\d+ +[\de+-]+ +[\d.]+$"
    assert re.search(row, out, re.M), out


def test_scaling():
    out = output("benchmarks/scaling.py", "--studies", "8")
    by_study = re.search(r"MLflow, granularity=study: 8 studies as (\d+) runs in \d+ s", out)
    by_job = re.search(r"MLflow, granularity=job: 8 studies as (\d+) runs in \d+ s", out)
    assert int(by_study[1]) - int(by_job[1]) == 8 - 4, "and as many summaries"
    assert re.search(r"^ +MLflow by job, rows +\S+ +\S+$", out, re.M)


def test_parts():
    out = output_of_a_fresh_process("benchmarks/parts.py", "batches=1", "samples=1,2")
    assert "3 studies, 150,000 trials in" in out
    for part in ("waiting for MLflow", "estimators", "loss curves", "records", "imports", "wall time"):
        assert re.search(rf"^{part} +\d+\.\d+", out, re.M)


def test_main_job():
    out = output_of_a_fresh_process("benchmarks/main_job.py", "--quick", "--repeats", "1")
    for row in ("main job", "first output", "longest silence", "main job, again", "--help"):
        assert re.search(rf"^{row} +\d+\.\d\d s", out, re.M), out
    assert re.search(r"^peak memory +\d+ MiB", out, re.M)


def test_evaluated():
    out = output("benchmarks/evaluated.py", "--repeats", "1", "--lrs", "4", "--largest", "16")
    for name in ("sign MLP, width 32", "ReLU MLP, width 512", "conv, batch norm"):
        assert re.search(rf"^{name} +(8|16) +\d+( +[\d.]+){{4}}$", out, re.M)


def test_samplers(tmp_path):
    command = [
        "benchmarks/samplers.py", "--studies", "2", "--trials", "20", "--samplers",
        "grid-1e-2,tpe-log", "--processes", "1", "--out", str(tmp_path), "--cache", str(tmp_path),
        "model.width=8", "batch_size=64", "pretraining.steps=5", "pretraining.batch_size=100",
    ]  # fmt: skip
    out = output(*command)
    number = r"[\d.e-]+"
    for row in (
        rf"grid-1e-2 \| - \| - \| {number} / {number} \| {number} \|",
        rf"tpe-log \| {number} / {number} \| {number} / {number} \| - \| - \|",
    ):
        assert len(re.findall(rf"^\| {row}$", out, re.M)) == 4  # raw and pretrained, fraction and not
    assert {"samplers.csv", "samplers.png", "samplers.svg"} <= {f.name for f in tmp_path.iterdir()}

    # Stopped in the middle of a line: only the study that is missing is done again.
    (kept,) = tmp_path.glob("samplers-*.csv")
    whole = kept.read_text()
    lines = whole.splitlines(keepends=True)
    kept.write_text("".join(lines[:-1]) + lines[-1][:30])
    assert output(*command).count("| tpe-log |") == 4
    again = kept.read_text().splitlines(keepends=True)
    assert again[:-1] == lines[:-1]
    assert again[-1].split(",")[-2:] == lines[-1].split(",")[-2:]


def test_trial_costs():
    out = output("benchmarks/trial_costs.py", "--repeats", "1", "--most", "10")
    for sampler in ("random-log", "tpe-log", "gp-log"):
        assert re.search(rf"^\| {sampler} \| [\d.]+ ms \| [\d.e-]+ s \|$", out, re.M), out


def test_published(tmp_path):
    file = tmp_path / "rows.json"
    out = output("benchmarks/published.py", "--quick", "--json", str(file))
    assert "exact loss 0.68386823 (published .68386823)" in out
    assert re.search(r"^mean field +1 +0\.2478 0\.9954 \| 0\.2478 0\.9954 ", out, re.M)
    assert "the spurious minimum" in out
    assert re.search(r"^DisARM +0\.00\d+ +0\.004200 ", out, re.M)
    rows = json.loads(file.read_text())
    assert {row["layer"] for row in rows} == {1, 2, 3, 4}
    assert {"REINFORCE", "ST", "ARM", "PSA", "mean field"} <= {row["estimator"] for row in rows}
    assert all(row["rmse"] >= 0 and abs(row["cosine"]) <= 1 + 1e-9 for row in rows)


def test_radii(tmp_path):
    figure = tmp_path / "radii.png"
    out = output("benchmarks/radii.py", "--quick", "--figure", str(figure))
    assert re.search(r"^60 radii of a direction: [\d.]+ ms by two exact curves, ", out, re.M)
    for name in ("nes", "spsa", "guided_es", "fogzo"):
        assert f"<{name}, n = 2, at 60 radii by exact loss curves" in out
    assert figure.stat().st_size > 10_000


def test_discrete_gradient():
    out = output("benchmarks/discrete_gradient.py", "--quick")
    lines = re.findall(r"times as fast; they differ by at most (\S+)$", out, re.M)
    assert len(lines) == 2
    assert all(float(difference) < 1e-12 for difference in lines)
