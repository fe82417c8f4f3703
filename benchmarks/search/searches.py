"""Makes the searches of a comparison and adds one JSON line for each to a file; those that it has already are not made
again, so that a long comparison can go on where it was ended. Searches of other libraries do not change while their
versions do not: those of peers.jsonl are copied (see record.py).

A line is what `regatta simulate --json` prints, and "task", the LCBench task.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from budget import seconds_of
from methods import DEFAULT, ENVIRONMENT_BY_PEER, OURS, STOPPERS
from objective import ROOT, program
from record import RECORDED, read
from space import EPOCHS, SPACE, TASKS

HERE = Path(__file__).parent
TRIALS = 10_000  # more than any search gets to: time is what a search may spend


@dataclass(frozen=True, order=True)
class Search:
    seed: int
    task: str
    lanes: int
    method: str

    def __str__(self):
        return f"{self.method}, task {self.task}, {self.lanes} lanes, seed {self.seed}"


def study_file(search: Search) -> str:
    _, sampler, stopper = search.method.split("-")
    study = {
        "name": search.method,
        "objective": {"metric": "val_accuracy", "goal": "maximize"},
        "space": {p.name: {"type": p.kind, "low": p.low, "high": p.high, "log": p.log} for p in SPACE},
        "sampler": sampler,
        "stopper": STOPPERS[stopper],
        "budget": {
            "trials": TRIALS,
            "resource": EPOCHS,
            "wall_time_s": seconds_of(search.task, search.lanes),
        },
    }
    return json.dumps(study, indent=2)  # which is YAML as well


def command(search: Search, options: argparse.Namespace, folder: Path) -> list[str]:
    if search.method in ENVIRONMENT_BY_PEER:
        python = ROOT / ".regatta" / ENVIRONMENT_BY_PEER[search.method] / "bin/python"
        seconds = seconds_of(search.task, search.lanes)
        arguments = (search.method, search.task, search.lanes, search.seed, seconds)
        flags = ["--as-published"] if options.as_published else []
        return [str(python), str(HERE / "simulate_peer.py"), *map(str, arguments), *flags]
    study = folder / f"{search.method}-{search.task}-{search.lanes}.yaml"
    study.write_text(study_file(search))
    asked = ["--objective", f"'{sys.executable}' '{program()}'", "--send", json.dumps({"task": search.task})]
    fleet = ["--lanes", str(search.lanes), "--seed", str(search.seed)]
    return [options.regatta, "simulate", str(study), *fleet, *asked, "--json"]


def line_of(search: Search, options: argparse.Namespace, folder: Path) -> dict:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    run = subprocess.run(command(search, options, folder), capture_output=True, text=True, env=environment)
    if run.returncode != 0:
        raise RuntimeError(f"{search} failed: {run.stderr.strip()}")
    return {"task": search.task, **json.loads(run.stdout.splitlines()[-1])}


def by_search(path: Path) -> dict[Search, dict]:
    return {Search(line["seed"], line["task"], line["lanes"], line["study"]): line for line in read(path)}


def copy_recorded(searches: set[Search], lines: Path):
    recorded = by_search(RECORDED)
    with lines.open("a") as out:
        for search in sorted(searches & recorded.keys()):
            out.write(json.dumps(recorded[search]) + "\n")


def make(searches: list[Search], options: argparse.Namespace) -> list[str]:
    """Returns what went wrong."""
    failures, began = [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.at_once) as pool, options.lines.open("a") as out:
        search_by_future = {pool.submit(line_of, search, options, Path(folder)): search for search in searches}
        for done, future in enumerate(as_completed(search_by_future), start=1):
            try:
                out.write(json.dumps(future.result()) + "\n")
                out.flush()
            except (RuntimeError, OSError, ValueError, IndexError) as error:
                failures.append(str(error))
            left_min = (time.monotonic() - began) / done * (len(searches) - done) / 60
            what = f"{done} of {len(searches)}, about {left_min:.0f} min left: {search_by_future[future]}"
            print(f"bench-search: {what}", file=sys.stderr)
    return failures


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--methods", default=",".join(DEFAULT))
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--lanes", default="8,32,100")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--afresh", action="store_true")
    parser.add_argument("--as-published", action="store_true")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--regatta", required=True)
    parser.add_argument("--lines", type=Path, required=True)
    options = parser.parse_args()
    methods, tasks = options.methods.split(","), options.tasks.split(",")
    unknown = set(methods) - set(ENVIRONMENT_BY_PEER) - set(OURS) | set(tasks) - set(TASKS)
    if unknown:
        known = ", ".join((*OURS, *ENVIRONMENT_BY_PEER, *TASKS))
        parser.error(f"no such method or task: {', '.join(sorted(unknown))}. There are {known}")
    asked = {
        Search(seed, task, int(lanes), method)
        for method in methods
        for task in tasks
        for lanes in options.lanes.split(",")
        for seed in range(1, options.seeds + 1)
    }
    if not (options.afresh or options.as_published):
        copy_recorded(asked - by_search(options.lines).keys(), options.lines)
    # Seed by seed, so that what a comparison has when it is ended early can be compared.
    failures = make(sorted(asked - by_search(options.lines).keys()), options)
    for failure in failures:
        print(f"bench-search: {failure}", file=sys.stderr)
    sys.exit(1 if failures else 0)


main()
