"""Races on the agents of one cluster, one after the other, and adds one JSON line for each to a file; those that it has
already are not run again. REGATTA_NATS says where the cluster is."""
import argparse
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from methods import ENVIRONMENT_BY_PEER, OURS, STOPPERS
from study import METRIC, study

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TRIALS = 10_000  # more than any race gets to

# Ours; what Maggy's median rule, plain ASHA and random search do; and the peers that never go on from a checkpoint.
DEFAULT = (
    "regatta-auto-asha",
    "regatta-random-asha",
    "regatta-random-median",
    "regatta-random-none",
    "optuna-tpe-hyperband",
    "syne-tune-asha",
    "syne-tune-bohb",
)


def ours(method: str, seed: int, options) -> dict:
    _, sampler, stopper = method.split("-")
    file = options.folder / f"{method}.yaml"
    file.write_text(json.dumps(study(method, TRIALS, options.seconds, sampler, STOPPERS[stopper])))
    curve, epochs, trials, began = [], 0, 0, time.monotonic()
    command = [options.regatta, "run", str(file), "--json", "--seed", str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        for line in run.stdout:
            record, now = json.loads(line), round(time.monotonic() - began, 3)
            trials += record["type"] == "proposed"
            for point in record.get("points", []) if now <= options.seconds else []:
                epochs += 1
                value = point["metrics"][METRIC]
                if not curve or value > curve[-1][1]:
                    curve.append([now, value])
    if run.returncode != 0:
        raise RuntimeError(f"{method} failed")
    return {"method": method, "seed": seed, "curve": curve, "trials": trials, "epochs": epochs}


def theirs(method: str, seed: int, options) -> dict:
    python = ROOT / ".regatta" / ENVIRONMENT_BY_PEER[method] / "bin/python"
    arguments = [method, seed, options.seconds, options.lanes]
    command = [python, HERE / "peer_lanes.py", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    recipe = json.dumps(options.recipe)
    run = subprocess.run(command, input=recipe, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def stored_recipe(options) -> dict:
    """The recipe as a study that was started has it: with the data in the object store. Its one trial warms the agents up."""
    file = options.folder / "first.yaml"
    file.write_text(json.dumps(study("first", 1, None, "random", "none")))
    regatta = partial(subprocess.run, stdout=subprocess.PIPE, text=True, check=True)
    name = regatta([options.regatta, "run", "--detach", str(file)]).stdout.strip()
    regatta([options.regatta, "study", "follow", name])
    return json.loads(regatta([options.regatta, "study", "show", name, "--json"]).stdout)["file"]["recipe"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--methods", default=",".join(DEFAULT))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--regatta", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--lines", type=Path, required=True)
    options = parser.parse_args()
    methods = options.methods.split(",")
    known = (*OURS, *(method for method in ENVIRONMENT_BY_PEER if not method.endswith("promotion")))
    if unknown := set(methods) - set(known):
        parser.error(f"no such method: {', '.join(sorted(unknown))}. There are {', '.join(known)}")
    lines = [json.loads(line) for line in options.lines.read_text().splitlines()] if options.lines.exists() else []
    made = {(line["seed"], line["method"]) for line in lines}
    options.recipe = stored_recipe(options)
    races = [(seed, method) for seed in range(1, options.seeds + 1) for method in methods if (seed, method) not in made]
    for number, (seed, method) in enumerate(races):
        left_min = (len(races) - number) * (options.seconds + 5) / 60
        print(f"bench-real: {number} of {len(races)}, about {left_min:.0f} min left: {method}, seed {seed}", file=sys.stderr)
        line = (theirs if method in ENVIRONMENT_BY_PEER else ours)(method, seed, options)
        with options.lines.open("a") as out:
            out.write(json.dumps({**line, "seconds": options.seconds, "lanes": options.lanes}) + "\n")


main()
