"""PYTHONPATH=benchmarks/search python3 -m unittest discover benchmarks/functions: the problems, without any library."""
import random
import unittest

from problems import ALL, EPOCHS, branin, hartmann


def drawn(space: dict, draw: random.Random) -> dict:
    """A configuration at random, with the parameters that exist in it."""
    params = {}
    for name, about in space.items():
        conditions = about.get("when", {}).items()
        if not all(params.get(of) in (wanted if isinstance(wanted, list) else [wanted]) for of, wanted in conditions):
            continue
        if about["type"] == "categorical":
            params[name] = draw.choice(about["choices"])
        else:
            number = draw.randint if about["type"] == "int" else draw.uniform
            params[name] = number(about["low"], about["high"])
    return params


class Problems(unittest.TestCase):
    def test_every_configuration_has_a_curve_and_always_the_same(self):
        draw = random.Random(7)
        for name, problem in ALL.items():
            for _ in range(20):
                params = drawn(problem.space, draw)
                values, elapsed = problem.curve(params)
                self.assertEqual(len(values), EPOCHS, name)
                self.assertEqual(elapsed, sorted(elapsed), name)
                self.assertEqual((values, elapsed), problem.curve(dict(params)), name)

    def test_known_minima_are_zero(self):
        best = (0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573)
        self.assertAlmostEqual(hartmann({f"x{i}": value for i, value in enumerate(best)}), 0.0, places=4)
        self.assertAlmostEqual(branin({"x0": (3.14159265 + 5) / 15, "x1": 2.275 / 15}), 0.0, places=4)


if __name__ == "__main__":
    unittest.main()
