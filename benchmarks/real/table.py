"""Prints the comparison of races.py's lines: mean rank, and the median of the best value, at shares of the time."""
import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean, median

from ranks import SHARES, aligned, ranks


def best_at(line: dict, seconds: float) -> float:
    return max((value for at, value in line["curve"] if at <= seconds), default=float("-inf"))


def main():
    lines = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    by_seed = defaultdict(dict)
    for line in lines:
        by_seed[line["seed"]][line["method"]] = line
    methods = sorted({line["method"] for line in lines})
    whole = {seed: by_method for seed, by_method in by_seed.items() if len(by_method) == len(methods)}
    if not whole:
        sys.exit("no seed has every method")
    places, bests = defaultdict(list), defaultdict(list)
    for by_method in whole.values():
        for share in SHARES:
            at = {method: best_at(line, share * line["seconds"]) for method, line in by_method.items()}
            for method, value in at.items():
                bests[method, share].append(value)
            for method, place in ranks({method: -value for method, value in at.items()}).items():
                places[method, share].append(place)
    first = lines[0]
    print(f"{first['lanes']} lanes, {first['seconds']:.0f} s, {len(whole)} seeds: mean rank and median of the best at shares of the time")
    titles = ["method", *(f"rank {share:.0%}" for share in SHARES), *(f"best {share:.0%}" for share in SHARES), "trials", "epochs"]
    rows = []
    for method in sorted(methods, key=lambda method: fmean(places[method, SHARES[-1]])):
        counts = [median(by_method[method][what] for by_method in whole.values()) for what in ("trials", "epochs")]
        rows.append([
            method,
            *(f"{fmean(places[method, share]):.2f}" for share in SHARES),
            *(f"{median(bests[method, share]):.4f}" for share in SHARES),
            *(f"{count:.0f}" for count in counts),
        ])
    print(aligned([titles, *rows]))


main()
