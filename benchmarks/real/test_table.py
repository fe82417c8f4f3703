"""PYTHONPATH=benchmarks/search python3 -m unittest discover benchmarks/real: the table, without any library."""
import unittest

from table import best_at, rows


def line(method: str, seed: int, curve: list, trials: int = 4) -> dict:
    return {"method": method, "seed": seed, "lanes": 2, "seconds": 100.0, "curve": curve, "trials": trials, "epochs": 9}


class Table(unittest.TestCase):
    def test_best_is_that_of_the_time_and_not_the_last(self):
        raced = line("a", 1, [[10.0, 0.5], [20.0, 0.8], [30.0, 0.7], [60.0, 0.9]])
        self.assertEqual([best_at(raced, seconds) for seconds in (15.0, 50.0, 100.0)], [0.5, 0.8, 0.9])

    def test_who_has_measured_nothing_is_last_and_shows_nothing(self):
        table = rows([line("late", 1, [[40.0, 0.9]]), line("early", 1, [[10.0, 0.5]])])
        self.assertEqual(table[0][:4], ["method", "rank 25%", "rank 50%", "rank 100%"])
        self.assertEqual(table[1], ["late", "2.00", "1.00", "1.00", "-", "0.9000", "0.9000", "4", "9"])
        self.assertEqual(table[2], ["early", "1.00", "2.00", "2.00", "0.5000", "0.5000", "0.5000", "4", "9"])

    def test_only_seeds_that_every_method_raced_with_count(self):
        raced = [line("a", 1, [[1.0, 0.5]]), line("b", 1, [[1.0, 0.6]]), line("a", 2, [[1.0, 0.9]], trials=100)]
        self.assertEqual([(row[0], row[3], row[7]) for row in rows(raced)[1:]], [("b", "1.00", "4"), ("a", "2.00", "4")])


if __name__ == "__main__":
    unittest.main()
