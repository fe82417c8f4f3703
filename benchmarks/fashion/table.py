"""Prints what was trained on Fashion-MNIST, ours and PyTorch's: table.py FOLDER MODEL...

FOLDER holds MODEL.ours, as `regatta run --json` prints, and MODEL.torch, as scripts/fashion-torch does. Seconds are of
training and of the measuring after each epoch.
"""
import json
import pathlib
import sys

TITLES = ("model", "engine", "epochs", "seconds", "test accuracy", "the best after an epoch")


def lines(path: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def ours(path: pathlib.Path) -> list[tuple[float, float]]:
    """Seconds and accuracy after each epoch."""
    points = [point for record in lines(path) for point in record.get("record", record).get("points", ())]
    return [(point["elapsed_s"], point["metrics"]["validation_accuracy"]) for point in points]


def torchs(path: pathlib.Path) -> list[tuple[float, float]]:
    return [(line["elapsed_s"], line["test_accuracy"]) for line in lines(path)]


def main() -> None:
    folder, cells = pathlib.Path(sys.argv[1]), [TITLES]
    for model in sys.argv[2:]:
        for engine, epochs in (("Regatta", ours(folder / f"{model}.ours")), ("PyTorch", torchs(folder / f"{model}.torch"))):
            if epochs:
                (seconds, accuracy), best = epochs[-1], max(accuracy for _, accuracy in epochs)
                cells.append((model, engine, str(len(epochs)), f"{seconds:.0f}", f"{accuracy:.4f}", f"{best:.4f}"))
    widths = [max(map(len, column)) for column in zip(*cells)]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths)))


main()
