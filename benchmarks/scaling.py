"""What 10^4 and 10^6 studies cost: unit costs measured here, and what they add up to.

    python benchmarks/scaling.py                 # all of it, some ten minutes
    python benchmarks/scaling.py --studies 100   # a small one, to see that it works

Measures, each in this run: a study (its estimator, loss curve, record), the check and the composing of a
job, all that Hydra does for one, the start of a process, reading a record, and MLflow with
`tracking.granularity=study` and `=job`.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from hydra import initialize_config_dir  # noqa: E402
from hydra.core.global_hydra import GlobalHydra  # noqa: E402
from hydra.types import RunMode  # noqa: E402

from srste.launch import preflight  # noqa: E402
from srste.launch.composing import compose  # noqa: E402
from srste.launch.hydra_cache import CachingLoader  # noqa: E402
from srste.launch.results import results_in  # noqa: E402
from srste.launch.tracked import synced, write_outcome  # noqa: E402
from srste.report.launch_files import write_files  # noqa: E402
from srste.store import records  # noqa: E402
from srste.store.files import sealed  # noqa: E402
from srste.store.manifest import Contents, JobContents, Launch  # noqa: E402
from srste.store.records import Record  # noqa: E402
from srste.tracking import open_store  # noqa: E402

BATCHES = 10
TRACKED_BY_STUDY = 200
"""Runs that are enough to know what one costs."""


def train(folder: Path, *arguments: str) -> float:
    """Runs train.py there; returns the seconds."""
    started = time.perf_counter()
    command = [sys.executable, str(ROOT / "train.py"), *arguments, "report=false"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - started


def study_cost(folder: Path, batches: int, samples: str) -> dict[str, float]:
    """Seconds and bytes of a study at the note's size, from its record."""
    train(folder, "-m", f"samples={samples}", f"batches={batches}", "tracking=none")
    root = next((folder / "multirun").iterdir())
    found = list(records.find(root))
    started = time.perf_counter()
    for path, _ in found:
        records.read(path)
    reading = (time.perf_counter() - started) / len(found)
    size = sum(file.stat().st_size for path, _ in found for file in path.iterdir()) / len(found)
    seconds = sum(record.seconds for _, record in found) / len(found)
    table = (found[0][0] / records.TRIALS).read_bytes()
    started = time.perf_counter()
    for number in range(20):
        records.write(folder / "written" / str(number), found[0][1], table)
    writing = (time.perf_counter() - started) / 20
    return {"study": seconds, "write": writing, "read": reading, "bytes": size}


def launching_cost(folder: Path, few: int, many: int) -> float:
    """Seconds that a job costs the launching process, which checks it and composes it for a task. The
    slope between two sweeps."""
    (folder / "checked").mkdir()
    os.chdir(folder / "checked")
    seconds = {}
    for count in (few, many):
        sweep = [f"samples=range(1,{count + 1})", f"batches={BATCHES}", "hydra/launcher=local_parallel"]
        started = time.perf_counter()
        argv = ["-m", *sweep]
        preflight.check(compose(argv, ROOT / "conf"), argv)
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            loader = CachingLoader(GlobalHydra.instance().config_loader().get_search_path())
            master = loader.load_configuration("config", sweep, RunMode.MULTIRUN)
            for samples in range(count):
                pickle.dumps(loader.load_sweep_config(master, [f"samples={samples}", *sweep[1:]]))
        seconds[count] = time.perf_counter() - started
    return (seconds[many] - seconds[few]) / (many - few)


def job_cost(folder: Path, few: int, many: int) -> float:
    """Seconds that a job costs in one process beyond its studies: checked, composed, its folder and
    logging set up by Hydra, its records found. The slope between two sweeps of which every study has its
    record."""

    def swept(count: int) -> float:
        return train(
            folder, "-m", f"samples=range(1,{count + 1})", "batches=1", "batch_size=16",
            "sampling.step=0.05", "tracking=none", f"hydra.sweep.dir=jobs-{count}",
        )  # fmt: skip

    for count in (few, many):  # makes the records
        swept(count)
    return (swept(many) - swept(few)) / (many - few)


def start_cost(times: int) -> float:
    """Seconds until a process is ready to run jobs."""
    code = "import submitit.core._submit, srste.launch.hydra_job, srste.launch.cluster.work"
    started = time.perf_counter()
    for _ in range(times):
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, check=True,
        )  # fmt: skip
    return (time.perf_counter() - started) / times


def many_records(folder: Path, count: int) -> tuple[Path, Launch, Contents]:
    """A launch of that many studies: real records of a few, under other seeds. Their tables are
    links to the real ones, so that the disk holds them."""
    originals = list(records.find(next((folder / "multirun").iterdir())))
    per_seed = len(originals)
    root = folder / "many"
    jobs: dict[tuple[str, int | None, int], JobContents] = {}
    for number in range(count):
        seed, which = divmod(number, per_seed)
        source, original = originals[which]
        key = f"{number:064x}"
        place = (original.estimator, original.samples, seed)
        name = f"seed={seed}-{original.estimator}-{original.samples}"
        job = jobs.setdefault(place, JobContents(name, {}, [f"{len(jobs):064d}"], None))
        record: Record = replace(
            original, key=key, group=job.groups[0], identity=original.identity | {"seed": seed},
            config=original.config | {"seed": seed},
        )  # fmt: skip
        job.studies[key] = f"{job.folder}/studies/batch-{record.batch:02d}"
        path = root / job.studies[key]
        path.mkdir(parents=True)
        os.link(source / records.TRIALS, path / records.TRIALS)
        (path / records.RECORD).write_bytes(sealed(asdict(record)))
    tracking = {"name": "mlflow", "uri": None, "experiment": "srste", "granularity": "job"}
    launch = Launch("0" * 32, "many", [], True, "", "2026-01-01T00:00:00+00:00", tracking)
    return root, launch, Contents(list(jobs.values()))


def tracking_cost(
    folder: Path, root: Path, launch: Launch, contents: Contents, granularity: str, most: int
) -> dict[str, float]:
    """Seconds, rows and bytes in a new SQLite store, of at most that many of the studies."""
    uri = f"sqlite:///{folder}/{granularity}.db"
    launch = replace(launch, tracking=launch.tracking | {"uri": uri, "granularity": granularity})
    os.chdir(folder)
    started = time.perf_counter()
    results = results_in(root, launch, contents)
    reading = time.perf_counter() - started
    if most < len(results.records):
        results = replace(results, records=dict(list(results.records.items())[:most]))
    store = open_store(launch.tracking)
    empty = rows_of(folder / f"{granularity}.db")
    before = (folder / f"{granularity}.db").stat().st_size
    started = time.perf_counter()
    tracked = synced(results, store, lambda done, of: None)
    write_outcome(tracked, store, [], seconds=0.0)
    added = tracked.synced.added
    seconds = time.perf_counter() - started
    return {
        "studies": len(results.records), "runs": added, "reading": reading, "seconds": seconds,
        "rows": rows_of(folder / f"{granularity}.db") - empty,
        "database": (folder / f"{granularity}.db").stat().st_size - before,
        "artifacts": sum(f.stat().st_size for f in (folder / "mlruns").rglob("*") if f.is_file()),
    }  # fmt: skip


def rows_of(path: Path) -> int:
    """The rows of all tables of a SQLite database."""
    with sqlite3.connect(path) as database:
        names = database.execute("select name from sqlite_master where type = 'table'").fetchall()
        return sum(database.execute(f'select count(*) from "{n}"').fetchone()[0] for (n,) in names)


def finishing_cost(root: Path, launch: Launch, contents: Contents, folder: Path) -> float:
    """Seconds for tables and figures of all conditions."""
    results = results_in(root, launch, contents)
    started = time.perf_counter()
    (folder / "files").mkdir()
    write_files(results.conditions, folder / "files")
    return time.perf_counter() - started


def human(seconds: float) -> str:
    """For example "12 s", "3 min", "5 h", "2 days"."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def gigabytes(size: float) -> str:
    """For example "4.4 GB"."""
    return f"{size / 1e9:.3g} GB"


def main() -> None:
    """Prints the unit costs, then what they add up to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=10_000)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    count = arguments.studies
    small = count < 1_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unit = study_cost(folder, *((2, "1,3") if small else (BATCHES, "1,3,5,7,9")))
        unit["job"] = job_cost(folder, *((1, 3) if small else (20, 120)))
        unit["launching"] = launching_cost(folder, *((1, 3) if small else (20, 520)))
        unit["start"] = start_cost(1 if small else 3)
        print("One of each, measured here:")
        print(f"  study: estimator, 50,000 losses, replay      {1e3 * unit['study']:8.1f} ms")
        print(f"  its record: written and synced               {1e3 * unit['write']:8.1f} ms")
        print(f"  its record: read and verified                {1e3 * unit['read']:8.2f} ms")
        print(f"  its record: on disk                          {unit['bytes'] / 1e3:8.0f} kB")
        print(f"  job: checked and composed for a task         {1e3 * unit['launching']:8.1f} ms")
        print(f"  job: all of it in one process, records found {1e3 * unit['job']:8.0f} ms")
        print(f"  task: Python started, all imported           {unit['start']:8.1f} s")
        root, launch, contents = many_records(folder, count)
        by_study = tracking_cost(folder, root, launch, contents, "study", TRACKED_BY_STUDY)
        by_job = tracking_cost(folder, root, launch, contents, "job", count)
        for granularity, cost in (("study", by_study), ("job", by_job)):
            each = {key: cost[key] / cost["studies"] for key in ("seconds", "rows", "database")}
            print(
                f"  MLflow, granularity={granularity}: {cost['studies']:,} studies as {cost['runs']:,} "
                f"runs in {cost['seconds']:.0f} s; each {1e3 * each['seconds']:.1f} ms, "
                f"{each['rows']:.0f} rows, {each['database'] / 1e3:.1f} kB of database"
            )
        if not small:
            unit["finish"] = finishing_cost(root, launch, contents, folder)
            print(f"  tables of all {count:,} and 20 figures at the end: {unit['finish']:.0f} s")
        whole = by_job["reading"] + by_job["seconds"]
        print(f"\n{count:,} studies tracked with granularity=job, records read, in {whole:.0f} s")
        print_sums(unit, by_study, by_job)
        if arguments.json:
            figures = {"unit": unit, "study": by_study, "job": by_job}
            arguments.json.write_text(json.dumps(figures, indent=1))


def print_sums(unit: dict[str, float], by_study: dict[str, float], by_job: dict[str, float]) -> None:
    """What 10^4 and 10^6 studies cost, one after the other and in 100 tasks at once."""
    print(f"\n{BATCHES} batches a job, 10 jobs a task:")
    print(f"  {'studies':>33}{'10^4':>12}{'10^6':>12}")
    per_study = unit["study"] + unit["write"] + unit["start"] / (10 * BATCHES)

    def line(what: str, show, cost) -> None:
        print(f"  {what:>33}{show(cost(1e4)):>12}{show(cost(1e6)):>12}")

    line("computing, one process", human, lambda n: n * per_study)
    line("computing, 100 tasks at once", human, lambda n: n * per_study / 100)
    line("launching (checked, composed)", human, lambda n: n / BATCHES * unit["launching"])
    if "finish" in unit:
        line("tables at the end", human, lambda n: n / 1e4 * unit["finish"])
    line("records, disk", gigabytes, lambda n: n * unit["bytes"])
    line("records, read once", human, lambda n: n * unit["read"])
    for name, cost in (("study", by_study), ("job", by_job)):
        each = {key: cost[key] / cost["studies"] for key in ("seconds", "rows", "database")}
        line(f"MLflow by {name}, time", human, lambda n, e=each: n * e["seconds"])
        line(f"MLflow by {name}, rows", lambda x: f"{x:.1e}", lambda n, e=each: n * e["rows"])
        line(f"MLflow by {name}, database", gigabytes, lambda n, e=each: n * e["database"])
    line("MLflow by study, artifacts", gigabytes, lambda n: n * unit["bytes"])


if __name__ == "__main__":
    main()
