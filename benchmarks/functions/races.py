"""Searches each problem with each method, and prints mean ranks over problems and seeds, and those at the end by problem."""
import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean

from problems import ALL, EPOCHS, MIXED, PROBLEMS
from ranks import SHARES, aligned, ranks

HERE = Path(__file__).parent
METHODS = (
    "regatta-auto",
    "regatta-tpe",
    "regatta-cqr",
    "regatta-evolution",
    "regatta-random",
    "optuna-tpe-hyperband",
    "optuna-random",
)
COLUMNS_MAX = 20
# In mean full runs, of some 31 seconds each.
FULL_RUNS_BY_LANES = {8: 10.0, 32: 4.0}


def seconds_of(lanes: int) -> float:
    return FULL_RUNS_BY_LANES[lanes] * 1.15 * EPOCHS


def search(method: str, name: str, lanes: int, seed: int, regatta: str) -> list:
    """The best loss so far, and when it was measured."""
    if method.startswith("optuna"):
        arguments = (method, name, lanes, seed, seconds_of(lanes))
        return answer([sys.executable, str(HERE / "optuna_search.py"), *map(str, arguments)])["curve"]
    study = {
        "name": method,
        "objective": {"metric": "loss", "goal": "minimize"},
        "space": ALL[name].space,
        "sampler": method.removeprefix("regatta-"),
        "stopper": "asha",
        "budget": {"trials": 10_000, "resource": EPOCHS, "wall_time_s": seconds_of(lanes)},
    }
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(json.dumps(study))  # which is YAML as well
        file.flush()
        asked = ["--objective", f"'{sys.executable}' '{HERE / 'objective.py'}'", "--send", json.dumps({"problem": name})]
        command = [regatta, "simulate", file.name, "--lanes", str(lanes), "--seed", str(seed), *asked, "--json"]
        return answer(command)["curve"]


def answer(command: list[str]) -> dict:
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def best_by(curve: list, seconds: float) -> float:
    return min((value for at, value in curve if at <= seconds), default=float("inf"))


def table(curves: dict, lanes: int, methods: list[str], names: list[str], seeds: range) -> str:
    places, at_end = defaultdict(list), defaultdict(list)
    for name in names:
        for seed in seeds:
            for share in SHARES:
                found = {method: best_by(curves[method, name, lanes, seed], share * seconds_of(lanes)) for method in methods}
                for method, place in ranks(found).items():
                    places[method, share].append(place)
                    if share == 1.0:
                        at_end[method, name].append(place)
    columns = names if len(names) <= COLUMNS_MAX else []
    rows = [["method", *(f"{share:.0%}" for share in SHARES), *columns]]
    for method in sorted(methods, key=lambda method: fmean(places[method, 1.0])):
        means = [fmean(places[method, share]) for share in SHARES] + [fmean(at_end[method, name]) for name in columns]
        rows.append([method, *(f"{mean:.2f}" for mean in means)])
    return aligned(rows)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--problems", default=",".join(PROBLEMS), help="names, or `mixed`: sixty of choices and numbers")
    parser.add_argument("--lanes", default="8,32")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--regatta", required=True)
    options = parser.parse_args()
    methods, names, seeds = options.methods.split(","), options.problems.split(","), range(1, options.seeds + 1)
    names = list(MIXED) if names == ["mixed"] else names
    sizes = [int(lanes) for lanes in options.lanes.split(",")]
    asked = [(method, name, lanes, seed) for seed in seeds for name in names for lanes in sizes for method in methods]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        curves = {}
        for done, (key, curve) in enumerate(zip(asked, pool.map(lambda key: search(*key, options.regatta), asked)), start=1):
            curves[key] = curve
            print(f"\rbench-functions: {done} of {len(asked)} searches", end="", file=sys.stderr)
    print(file=sys.stderr)
    for lanes in sizes:
        what = "mean rank at a share of the time, and at the end by problem"
        print(f"\n{lanes} lanes, {len(names)} problems, {len(seeds)} seeds: {what}")
        print(table(curves, lanes, methods, names, seeds))


main()
