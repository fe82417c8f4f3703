"""Prints the comparison of races.py's lines: mean rank, and the median of the best value, at shares of the time."""
import json
import math
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean, median

from ranks import SHARES, aligned, ranks


def best_at(line: dict, seconds: float) -> float:
    return max((value for at, value in line["curve"] if at <= seconds), default=-math.inf)


def shown(best: float) -> str:
    """A method may have measured nothing yet."""
    return f"{best:.4f}" if math.isfinite(best) else "-"


def rows(lines: list[dict]) -> list[list[str]]:
    """The table's, its head first, of the seeds that every method has raced with; the best at the end comes first."""
    by_seed = defaultdict(dict)
    for line in lines:
        by_seed[line["seed"]][line["method"]] = line
    methods = sorted({line["method"] for line in lines})
    whole = [by_method for by_method in by_seed.values() if len(by_method) == len(methods)]
    if not whole:
        sys.exit("no seed has every method")
    places, bests = defaultdict(list), defaultdict(list)
    for by_method in whole:
        for share in SHARES:
            at = {method: best_at(line, share * line["seconds"]) for method, line in by_method.items()}
            for method, value in at.items():
                bests[method, share].append(value)
            for method, place in ranks({method: -value for method, value in at.items()}).items():
                places[method, share].append(place)
    head = ["method", *(f"rank {share:.0%}" for share in SHARES), *(f"best {share:.0%}" for share in SHARES)]
    table = [[*head, "trials", "epochs"]]
    for method in sorted(methods, key=lambda method: fmean(places[method, SHARES[-1]])):
        counts = [median(by_method[method][what] for by_method in whole) for what in ("trials", "epochs")]
        table.append([
            method,
            *(f"{fmean(places[method, share]):.2f}" for share in SHARES),
            *(shown(median(bests[method, share])) for share in SHARES),
            *(f"{count:.0f}" for count in counts),
        ])
    return table


def main():
    lines = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    first, seeds = lines[0], len({line["seed"] for line in lines})
    what = f"{first['lanes']} lanes, {first['seconds']:.0f} s, {seeds} seeds"
    print(f"{what}: mean rank and median of the best at shares of the time")
    print(aligned(rows(lines)))


if __name__ == "__main__":
    main()
