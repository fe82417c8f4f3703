"""python3 -m unittest discover benchmarks/search: the fleet in virtual time and the table, without any library."""
import re
import unittest
from pathlib import Path

from budget import regret, seconds_of
from lanes import Start, simulate
from ranks import SHARES, ranks
from record import RECORDED, read, thinned
from space import EPOCHS, SPACE, TASKS
from table import rows


class Scripted:
    """Gives out the starts in order, then fresh trials, and ends a trial at the epoch named for it, if one is."""

    def __init__(self, starts=(), end_by_trial=None):
        self.starts = list(starts)
        self.end_by_trial = end_by_trial or {}
        self.asked, self.reports = 0, []

    def ask(self) -> Start:
        self.asked += 1
        return self.starts.pop(0) if self.starts else Start(1000 + self.asked, {})

    def report(self, trial: int, epoch: int, value: float) -> bool:
        self.reports.append((trial, epoch, value))
        return self.end_by_trial.get(trial) != epoch


def steady(_params):
    """Ten seconds an epoch, and each epoch better by one."""
    return [float(epoch) for epoch in range(1, EPOCHS + 1)], [10.0 * epoch for epoch in range(1, EPOCHS + 1)]


class Lanes(unittest.TestCase):
    def test_stopped_trial_frees_its_lane_at_once(self):
        scheduler = Scripted([Start(0, {}), Start(1, {})], {0: 2})
        simulate(scheduler, steady, lanes=1, seconds=30.0)
        self.assertEqual(scheduler.reports, [(0, 1, 1.0), (0, 2, 2.0), (1, 1, 1.0)])

    def test_paused_trial_goes_on_from_its_checkpoint(self):
        scheduler = Scripted([Start(0, {}), Start(1, {}), Start(0, {}, epochs_done=3)], {0: 3, 1: 1})
        found = simulate(scheduler, steady, lanes=1, seconds=50.0)
        self.assertEqual(scheduler.reports[-1], (0, 4, 4.0))
        self.assertEqual(found["trials"], 2)
        self.assertEqual(found["curve"], [[10.0, 1.0], [20.0, 2.0], [30.0, 3.0], [50.0, 4.0]])

    def test_lanes_work_side_by_side(self):
        scheduler = Scripted()
        simulate(scheduler, steady, lanes=3, seconds=20.0)
        self.assertEqual(len(scheduler.reports), 6)

    def test_trial_ends_with_its_last_epoch(self):
        scheduler = Scripted([Start(0, {}), Start(1, {})])
        found = simulate(scheduler, steady, lanes=1, seconds=10.0 * (EPOCHS + 1))
        self.assertEqual(scheduler.reports[-1], (1, 1, 1.0))
        self.assertEqual(found["ends_by_epoch"], {EPOCHS: 1})


class Table(unittest.TestCase):
    def test_equals_share_the_mean_of_their_ranks(self):
        self.assertEqual(ranks({"a": 0.5, "b": 0.1, "c": 0.5}), {"b": 1.0, "a": 2.5, "c": 2.5})

    def test_regret_counts_what_was_found_in_time(self):
        late = [[1.0, 90.0], [100.0, 99.0]]
        self.assertGreater(regret("3945", late, 99.0), regret("3945", late, 100.0))
        self.assertEqual(regret("3945", late, 0.5), float("inf"))

    def test_only_cases_that_all_methods_have_are_compared(self):
        def line(method, seed, value):
            return {"task": "3945", "seed": seed, "study": method, "lanes": 8, "curve": [[1.0, value]], "trials": 5}

        table, cases = rows([line("a", 1, 99.0), line("b", 1, 98.0), line("a", 2, 10.0)])
        self.assertEqual(cases, [("3945", 1)])
        self.assertEqual([row[:4] for row in table], [("a", 1.0, 1.0, 1.0), ("b", 2.0, 2.0, 2.0)])


class Recorded(unittest.TestCase):
    def test_kept_points_of_a_curve_have_its_regrets(self):
        curve = [[0.1, 50.0], [0.2, 60.0], [30.0, 70.0], [40.0, 80.0], [99.0, 90.0], [101.0, 95.0]]
        kept = thinned(curve, 100.0)
        self.assertEqual(kept, [[0.2, 60.0], [40.0, 80.0], [99.0, 90.0]])
        for share in SHARES:
            self.assertEqual(regret("3945", kept, share * 100.0), regret("3945", curve, share * 100.0))

    def test_libraries_are_of_the_versions_that_are_pinned(self):
        pins = (Path(__file__).parents[2] / "versions.env").read_text()
        pinned = {f"{name} {version}" for name, version in re.findall(r"\b(optuna|syne-tune)==([\d.]+)", pins)}
        recorded = {line["library"] for line in read(RECORDED)}
        self.assertTrue(recorded and recorded <= pinned, "remove the lines of other versions, and record them again")


class Space(unittest.TestCase):
    def test_ends_of_the_way_are_the_bounds(self):
        for parameter in SPACE:
            self.assertAlmostEqual(parameter.at(0.0), parameter.low, msg=parameter.name)
            self.assertAlmostEqual(parameter.at(1.0), parameter.high, msg=parameter.name)

    def test_larger_fleet_has_less_time_and_more_work(self):
        for task in TASKS:
            seconds = [seconds_of(task, lanes) for lanes in (8, 32, 100)]
            self.assertEqual(seconds, sorted(seconds, reverse=True))
            work = [lanes * time for lanes, time in zip((8, 32, 100), seconds)]
            self.assertEqual(work, sorted(work))


if __name__ == "__main__":
    unittest.main()
