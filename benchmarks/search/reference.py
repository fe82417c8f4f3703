"""Writes lcbench.json: for each task what a search is measured against, and how long a full run takes.

best: the best validation accuracy (at any epoch) of 20,000 random configurations and of what a local refinement made of
the ten best of them. median: the median of the random ones. mean_full_s: the mean seconds of their 52 epochs.
"""
import json
import pathlib
import statistics
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from objective import Objective
from space import SPACE, TASKS

FILE = pathlib.Path(__file__).parent / "lcbench.json"
RANDOM, STARTS, NEIGHBOURS, ROUNDS = 20_000, 10, 40, 12


def params_at(point: np.ndarray) -> dict:
    return {parameter.name: parameter.at(float(unit)) for parameter, unit in zip(SPACE, point)}


def refine(objective: Objective, point: np.ndarray, value: float, random: np.random.Generator) -> float:
    """Hill climbing: in each round the best of some neighbours, ever nearer ones, takes the place of a worse point."""
    for width in np.geomspace(0.2, 0.005, ROUNDS):
        moved = random.random((NEIGHBOURS, len(SPACE))) < 0.5
        steps = random.normal(0.0, width, (NEIGHBOURS, len(SPACE)))
        neighbours = np.clip(point + moved * steps, 0.0, 1.0)
        values = [max(accuracy) for accuracy, _ in objective.curves([params_at(near) for near in neighbours])]
        nearest_best = int(np.argmax(values))
        if values[nearest_best] > value:
            point, value = neighbours[nearest_best], values[nearest_best]
    return value


def reference(task: str) -> dict:
    random = np.random.default_rng(int(task))
    points = random.random((RANDOM, len(SPACE)))
    with Objective(task) as objective:
        curves = objective.curves([params_at(point) for point in points])
        values = [max(accuracy) for accuracy, _ in curves]
        starts = np.argsort(values)[-STARTS:]
        best = max(refine(objective, points[start], values[start], random) for start in starts)
    full_s = statistics.fmean(elapsed[-1] for _, elapsed in curves)
    return {"best": best, "median": round(statistics.median(values), 4), "mean_full_s": round(full_s, 3)}


if __name__ == "__main__":
    with ProcessPoolExecutor(2) as pool:
        references = dict(zip(TASKS, pool.map(reference, TASKS)))
    FILE.write_text("{\n" + ",\n".join(f'  "{task}": {json.dumps(references[task])}' for task in TASKS) + "\n}\n")
