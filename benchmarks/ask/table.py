"""Prints ask times side by side: table.py OURS OPTUNA, two files of JSON lines, one a case.

Optuna fits its model while it is asked, Regatta while it is told of a trial: how long that takes, on average and at most
over the last tenth of the trials, is beside it.
"""
import json
import sys

TITLES = (
    "sampler", "parameters", "trials", "pending", "Regatta ms", "p90", "told of one", "at most", "Optuna ms", "p90",
    "times as fast",
)
FIELDS = ("median_ms", "p90_ms", "told_mean_ms", "told_max_ms")


def times_by_case(path: str) -> dict:
    with open(path, encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    return {
        (case["sampler"], case["parameters"], case["trials"], case["pending"]): [
            case[field] for field in FIELDS if field in case
        ]
        for case in found
    }


def main():
    ours, optuna = times_by_case(sys.argv[1]), times_by_case(sys.argv[2])
    cells = [TITLES]
    for case in sorted({**ours, **optuna}):
        times = [f"{ms:.3g}" if ms < 100 else f"{ms:.0f}" for ms in (*ours.get(case, ()), *optuna.get(case, ()))]
        if case not in ours:
            times = ["-"] * len(FIELDS) + times
        elif case not in optuna:
            times += ["-", "-"]
        ratio = f"{optuna[case][0] / ours[case][0]:.0f}" if case in ours and case in optuna else "-"
        cells.append((*map(str, case), *times, ratio))
    widths = [max(map(len, column)) for column in zip(*cells)]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths)))


main()
