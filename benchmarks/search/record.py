"""Adds the searches of other libraries to peers.jsonl, which spares everyone else the hours that they take:
python3 benchmarks/search/record.py LINES, where LINES is what `scripts/bench-search --lines LINES` wrote.

Of a curve, what the table looks at is kept: the best value that was found by each share of the time. Where a library's
version, the fleet in virtual time or the objective changes, remove the lines of what has changed and record it again.
"""
import json
import sys
from pathlib import Path

from budget import seconds_of
from methods import ENVIRONMENT_BY_PEER
from ranks import SHARES

RECORDED = Path(__file__).parent / "peers.jsonl"


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def thinned(curve: list, seconds: float) -> list:
    """The last point by each share of the time, once; the values of a curve rise."""
    points = []
    for share in SHARES:
        by_then = [point for point in curve if point[0] <= share * seconds]
        if by_then and by_then[-1] not in points:
            points.append(by_then[-1])
    return points


def recorded(line: dict) -> dict:
    kept = {key: line[key] for key in ("study", "library", "task", "lanes", "seed", "trials")}
    return {**kept, "curve": thinned(line["curve"], seconds_of(line["task"], line["lanes"]))}


def key(line: dict) -> tuple:
    return line["study"], line["lanes"], line["task"], line["seed"]


def main():
    line_by_key = {key(line): line for line in read(RECORDED)}
    for line in read(Path(sys.argv[1])):
        if line["study"] in ENVIRONMENT_BY_PEER:
            line_by_key.setdefault(key(line), recorded(line))
    RECORDED.write_text("".join(json.dumps(line_by_key[key]) + "\n" for key in sorted(line_by_key)))


if __name__ == "__main__":
    main()
