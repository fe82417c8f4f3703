#!/usr/bin/env python3
"""Classifies wines by logistic regression: a program that trains trials of Regatta, with Python's standard library alone.

What it is told is in the environment and in its arguments; what it says is a line of JSON for each epoch. A checkpoint is
a folder of its own, announced once it is whole.
"""

import argparse
import csv
import json
import math
import os
import pathlib
import random
import signal
import time


def main():
    arguments = read_arguments()
    epochs, rows = int(os.environ["REGATTA_UNTIL"]), read_wines()
    training, validation = rows[: len(rows) * 3 // 4], rows[len(rows) * 3 // 4 :]
    model, done = resume() or (Model(), 0)
    asked_to_end = listen_for_the_end()
    kept_at = time.monotonic()
    for epoch in range(done + 1, epochs + 1):
        loss = model.train(training, arguments.rate, arguments.decay, seed=f"{os.environ['REGATTA_SEED']}.{epoch}")
        time.sleep(arguments.pause)
        tell({"resource": epoch, "metrics": {"train_loss": loss, **model.evaluate(validation)}})
        is_due = time.monotonic() - kept_at >= float(os.environ["REGATTA_CHECKPOINT_EVERY_S"])
        if is_due or asked_to_end() or epoch == epochs:
            keep(model, epoch)
            kept_at = time.monotonic()
        if asked_to_end():
            print(f"ended at epoch {epoch}, as asked to", flush=True)
            return


def read_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--decay", type=float, default=0.0)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds to wait in each epoch, to see it at work")
    return parser.parse_args()


def tell(message):
    print(json.dumps(message), flush=True)


def listen_for_the_end():
    """At SIGTERM the epoch is ended and kept; Regatta kills a program that takes too long about it."""
    heard = []
    signal.signal(signal.SIGTERM, lambda *_: heard.append(True))
    return lambda: bool(heard)


def keep(model, epoch):
    name = f"epoch-{epoch}"
    folder = pathlib.Path(os.environ["REGATTA_CHECKPOINTS"]) / name
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps({"epoch": epoch, "weights": model.weights}))
    tell({"checkpoint": name})


def resume():
    """The model and the epochs that it has seen, where an earlier attempt left them."""
    folder = os.environ.get("REGATTA_RESUME")
    if folder is None:
        return None
    kept = json.loads((pathlib.Path(folder) / "model.json").read_text())
    print(f"resumed after epoch {kept['epoch']}", flush=True)
    return Model(kept["weights"]), kept["epoch"]


def read_wines():
    """Rows of (features, class), each feature with mean 0 and deviation 1, in an order that never changes."""
    with open(pathlib.Path(os.environ["REGATTA_FILES"]) / "wine.csv", newline="") as file:
        wines = list(csv.DictReader(file))
    columns = [[float(wine[name]) for wine in wines] for name in wines[0] if name != "cultivar"]
    features = list(zip(*[standard(column) for column in columns]))
    rows = [((*row, 1.0), "abc".index(wine["cultivar"])) for row, wine in zip(features, wines)]
    random.Random(0).shuffle(rows)
    return rows


def standard(column):
    mean = sum(column) / len(column)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in column) / len(column))
    return [(value - mean) / deviation for value in column]


class Model:
    """Softmax over three linear functions of 13 features and a constant."""

    def __init__(self, weights=None):
        self.weights = weights or [[0.0] * 14 for _ in range(3)]

    def train(self, rows, rate, decay, seed):
        """One epoch of stochastic gradient descent; the mean loss."""
        order = random.Random(seed).sample(rows, len(rows))
        return sum(self.step(features, target, rate, decay) for features, target in order) / len(rows)

    def step(self, features, target, rate, decay):
        shares = self.shares(features)
        for kind, weights in enumerate(self.weights):
            error = shares[kind] - (kind == target)
            for index, feature in enumerate(features):
                weights[index] -= rate * (error * feature + decay * weights[index])
        return -math.log(max(shares[target], 1e-12))

    def evaluate(self, rows):
        shares = [(self.shares(features), target) for features, target in rows]
        return {
            "validation_loss": sum(-math.log(max(row[target], 1e-12)) for row, target in shares) / len(rows),
            "validation_accuracy": sum(row.index(max(row)) == target for row, target in shares) / len(rows),
        }

    def shares(self, features):
        outputs = [sum(map(float.__mul__, weights, features)) for weights in self.weights]
        top = max(outputs)
        powers = [math.exp(output - top) for output in outputs]
        return [power / sum(powers) for power in powers]


if __name__ == "__main__":
    main()
