"""What is trained: a small convolutional net, on a part of Fashion-MNIST so that an epoch takes a second or two."""
import sys
from pathlib import Path

from space import EPOCHS, SPACE

METRIC = "validation_accuracy"
# The first rows of the archive, to train on and to validate on.
ROWS, VALIDATION_ROWS = 6_000, 5_000
DATA = "fashion.npz"

RECIPE = {
    "data": {
        "file": DATA,
        "format": "npz",
        "task": "classification",
        "features": "x_train",
        "target": "y_train",
        "validation_features": "x_test",
        "validation_target": "y_test",
        "shape": [1, 28, 28],
        "normalize": "channel",
    },
    "model": {
        "family": "cnn",
        "channels": ["$width", "$width"],
        "norm": "batch",
        "global_pool": False,
        "hidden": ["$hidden"],
        "dropout": "$dropout",
    },
    "loss": {"name": "cross_entropy", "label_smoothing": "$smoothing"},
    "optimizer": {"name": "adamw", "learning_rate": "$learning_rate", "weight_decay": "$weight_decay"},
    "batch_size": 64,
}


def study(name: str, trials: int, seconds: float | None, sampler, stopper) -> dict:
    wall_time = {} if seconds is None else {"wall_time_s": seconds}
    return {
        "name": name,
        "objective": {"metric": METRIC, "goal": "maximize"},
        "space": {p.name: {"type": p.kind, "low": p.low, "high": p.high, "log": p.log} for p in SPACE},
        "sampler": sampler,
        "stopper": stopper,
        "budget": {"trials": trials, "resource": EPOCHS, **wall_time},
        "recipe": RECIPE,
    }


def write_data(archive: Path, folder: Path):
    import numpy

    with numpy.load(archive) as whole:
        counts = {"x_train": ROWS, "y_train": ROWS, "x_test": VALIDATION_ROWS, "y_test": VALIDATION_ROWS}
        numpy.savez(folder / DATA, **{name: whole[name][:count] for name, count in counts.items()})


if __name__ == "__main__":
    write_data(Path(sys.argv[1]), Path(sys.argv[2]))
