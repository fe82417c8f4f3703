"""A fleet in virtual time: what a scheduler that is asked and told at the right moments finds, and when.

Every lane always has a trial. A trial reports after each epoch; when it ends, is stopped or paused, its lane gets the
next one at that moment. The time that the scheduler itself takes to answer does not pass.
"""
import heapq
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from space import EPOCHS


@dataclass(frozen=True)
class Start:
    """What a lane is to do: train this trial, from the start or from the checkpoint that it was paused at."""

    trial: int
    params: dict
    epochs_done: int = 0


class Scheduler(Protocol):
    def ask(self) -> Start: ...

    def report(self, trial: int, epoch: int, value: float) -> bool:
        """Whether the trial goes on. Never asked for more than all epochs; after the last report, the answer is no."""


def simulate(scheduler: Scheduler, curve_of, lanes: int, seconds: float, epochs: int = EPOCHS) -> dict:
    """Runs a fleet for so many virtual seconds. curve_of(params) gives values and seconds since the start by epoch."""
    curves, order, ends = {}, count(), []
    reports, best, anytime = [], float("-inf"), []

    def report_later(now: float, trial: int, epoch: int):
        _, elapsed = curves[trial]
        took = elapsed[epoch - 1] - (elapsed[epoch - 2] if epoch > 1 else 0.0)
        heapq.heappush(reports, (now + took, next(order), trial, epoch))

    def fill_lane(now: float):
        start = scheduler.ask()
        if start.trial not in curves:
            curves[start.trial] = curve_of(start.params)
        report_later(now, start.trial, start.epochs_done + 1)

    for _ in range(lanes):
        fill_lane(0.0)
    while reports[0][0] <= seconds:
        now, _, trial, epoch = heapq.heappop(reports)
        value = curves[trial][0][epoch - 1]
        if value > best:
            best = value
            anytime.append([round(now, 3), best])
        if scheduler.report(trial, epoch, value) and epoch < epochs:
            report_later(now, trial, epoch + 1)
        else:
            ends.append(epoch)
            fill_lane(now)
    ends_by_epoch = {epoch: ends.count(epoch) for epoch in sorted(set(ends))}
    return {
        "curve": anytime,
        "trials": len(curves),
        "lane_seconds_busy": lanes * seconds,
        "lane_seconds_idle": 0.0,
        "ends_by_epoch": ends_by_epoch,
    }
