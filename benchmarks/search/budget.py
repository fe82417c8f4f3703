"""How much virtual time a search gets, and what its result is worth."""
import json
from pathlib import Path

REFERENCES = json.loads((Path(__file__).parent / "lcbench.json").read_text())

# The time of a search, in mean full runs of its task, for each size of fleet. The mean, and not more, because a few
# configurations take ten times as long. A larger fleet gets less time, as those who pay for one want, but more work:
# 64, 96 and 150 full runs, which with early stopping are some 500, 1,000 and 1,700 trials.
#   8 lanes: long enough for a model to go through many generations of trials; a quarter of it, 16 full runs, is what a
#   person on one machine waits for.
#   32 lanes: few full runs one after the other (three), so a model counts, if it knows what is pending.
#   100 lanes: hardly longer than one full run; a quarter of it ends before most full runs do. Who starts well and stops
#   early wins; a model has two or three generations to help.
FULL_RUNS_BY_LANES = {8: 8.0, 32: 3.0, 100: 1.5}


def seconds_of(task: str, lanes: int) -> float:
    # Sizes between the three, for trying things: as much work as the next smaller fleet.
    known = max((size for size in FULL_RUNS_BY_LANES if size <= lanes), default=8)
    full_runs = FULL_RUNS_BY_LANES[known] * known / lanes
    return round(full_runs * REFERENCES[task]["mean_full_s"], 3)


def regret(task: str, curve: list, seconds: float) -> float:
    """The part still missing of the way from the median random full run to the best known; infinite with no value."""
    found = max((value for at, value in curve if at <= seconds), default=float("-inf"))
    reference = REFERENCES[task]
    return (reference["best"] - found) / (reference["best"] - reference["median"])
