"""Prints the comparison of searches.py's lines: for each size of fleet, mean rank and median regret over time."""
import json
import sys
from collections import defaultdict
from statistics import fmean, median

from budget import regret, seconds_of
from ranks import SHARES, aligned, ranks


def rows(lines: list[dict]) -> tuple[list[tuple], list[tuple]]:
    """One row a method, best mean rank at the end first, and the cases (task, seed), those that all methods have."""
    line_by_case = defaultdict(dict)
    for line in lines:
        line_by_case[line["task"], line["seed"]][line["study"]] = line
    methods = sorted({line["study"] for line in lines})
    cases = {case: by_method for case, by_method in line_by_case.items() if len(by_method) == len(methods)}
    regrets = {method: [[] for _ in SHARES] for method in methods}
    places = {method: [[] for _ in SHARES] for method in methods}
    for (task, _), by_method in cases.items():
        for index, share in enumerate(SHARES):
            at = {
                method: regret(task, line["curve"], share * seconds_of(task, line["lanes"]))
                for method, line in by_method.items()
            }
            for method, place in ranks(at).items():
                regrets[method][index].append(at[method])
                places[method][index].append(place)
    if not cases:
        return [], []
    trials = {method: median(by_method[method]["trials"] for by_method in cases.values()) for method in methods}
    table = [
        (method, *map(fmean, places[method]), *(100 * median(values) for values in regrets[method]), trials[method])
        for method in methods
    ]
    return sorted(table, key=lambda row: row[len(SHARES)]), list(cases)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    over_time = [f"{what} {share:.0%}" for what in ("rank", "regret") for share in SHARES]
    titles = ["method", *over_time, "trials"]
    formats = ["{}", *["{:.2f}"] * 3, *["{:.2f}"] * 3, "{:.0f}"]
    for lanes in sorted({line["lanes"] for line in lines}):
        table, cases = rows([line for line in lines if line["lanes"] == lanes])
        tasks, seeds = len({task for task, _ in cases}), len({seed for _, seed in cases})
        print(f"\n{lanes} lanes: mean rank and median regret in % at a share of the time; {tasks} tasks, {seeds} seeds")
        cells = [titles, *([form.format(value) for form, value in zip(formats, row)] for row in table)]
        print(aligned(cells))


if __name__ == "__main__":
    main()
