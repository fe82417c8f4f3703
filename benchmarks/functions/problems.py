"""Problems of many kinds, made up: smooth, narrow, of many parameters, of categories and conditions, noisy, with outliers.

A problem has a space, as a study file has it, and a loss in closed form. Training is a curve that falls towards the loss
from `scale` above it, with noise; how fast, and how long an epoch takes, hang on the configuration.
"""
import hashlib
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

EPOCHS = 27


@dataclass(frozen=True)
class Problem:
    space: dict
    loss: Callable[[dict], float]
    scale: float
    noise: float  # standard deviation of a measurement, in scales

    def curve(self, params: dict) -> tuple[list[float], list[float]]:
        """Losses and seconds since the start by epoch; the same for the same configuration."""
        draw = random.Random(hashlib.sha256(repr(sorted(params.items())).encode()).hexdigest())
        loss, place = self.loss(params), self.place(params)
        speed, pace = 0.12 + 0.25 * place, 0.5 + place + 0.3 * draw.random()
        epochs = range(1, EPOCHS + 1)
        values = [loss + self.scale * (math.exp(-speed * epoch) + self.noise * draw.gauss(0, 1)) for epoch in epochs]
        return values, [pace * epoch for epoch in epochs]

    def place(self, params: dict) -> float:
        """Where the first number is in its range, from 0 to 1."""
        name, about = next((name, about) for name, about in self.space.items() if about["type"] != "categorical")
        low, high = about["low"], about["high"]
        if about.get("log"):
            return math.log(params[name] / low) / math.log(high / low)
        return (params[name] - low) / (high - low)


def real(low: float, high: float, **more) -> dict:
    return {"type": "float", "low": low, "high": high, **more}


def whole(low: int, high: int, **more) -> dict:
    return {"type": "int", "low": low, "high": high, **more}


def choice(*choices: str) -> dict:
    return {"type": "categorical", "choices": list(choices)}


def reals(count: int, low: float = 0.0, high: float = 1.0) -> dict:
    return {f"x{i}": real(low, high) for i in range(count)}


def numbers(params: dict, count: int) -> list[float]:
    return [params[f"x{i}"] for i in range(count)]


def effect(*of) -> float:
    """What a choice, or a pair of them, is worth: drawn once and for all."""
    return random.Random(repr(of)).gauss(0, 1)


def hartmann(params: dict) -> float:
    """In six dimensions, above its minimum (Dixon and Szego, 1978)."""
    weights = (1.0, 1.2, 3.0, 3.2)
    sharpness = (
        (10, 3, 17, 3.5, 1.7, 8), (0.05, 10, 17, 0.1, 8, 14), (3, 3.5, 1.7, 10, 17, 8), (17, 8, 0.05, 10, 0.1, 14),
    )
    centers = (
        (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886), (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
        (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650), (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
    )
    x = numbers(params, 6)
    return 3.32237 - sum(
        weight * math.exp(-sum(a * (value - at) ** 2 for a, value, at in zip(sharp, x, center)))
        for weight, sharp, center in zip(weights, sharpness, centers)
    )


def branin(params: dict) -> float:
    """Above its three minima (Dixon and Szego, 1978)."""
    x, y = 15 * params["x0"] - 5, 15 * params["x1"]
    bowl = (y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6) ** 2
    return bowl + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10 - 0.397887


def rosenbrock(count: int) -> Callable[[dict], float]:
    def loss(params: dict) -> float:
        x = numbers(params, count)
        return sum(100 * (after - before**2) ** 2 + (1 - before) ** 2 for before, after in zip(x, x[1:]))

    return loss


def ackley_of_five(params: dict) -> float:
    """Of twenty parameters, five count."""
    z = [3 * (value - 0.3) for value in numbers(params, 5)]
    ripples = sum(math.cos(2 * math.pi * value) for value in z) / 5
    return -20 * math.exp(-0.2 * math.sqrt(sum(value * value for value in z) / 5)) - math.exp(ripples) + 20 + math.e


def of_categories(params: dict) -> float:
    chosen = [params[name] for name in ("three", "five", "eight", "ten")]
    alone = sum(effect(place, one) for place, one in enumerate(chosen))
    pairs = sum(effect(place, one, other) for place, one in enumerate(chosen) for other in chosen[:place])
    return 7 + alone + 0.5 * pairs + 4 * sum(
        (value - 0.5 - 0.12 * effect("at", one)) ** 2 for value, one in zip(numbers(params, 4), chosen)
    )


def of_forty(params: dict) -> float:
    one = params["one"]
    return 3 + effect(one) + 4 * sum((x - 0.5 - 0.1 * effect(one, i)) ** 2 for i, x in enumerate(numbers(params, 3)))


def of_conditions(params: dict) -> float:
    """As of a network with two optimizers and one to three layers."""
    is_sgd, layers = params["optimizer"] == "sgd", int(params["layers"])
    loss = 0.1 + 0.35 * (math.log10(params["rate"]) + (1.2 if is_sgd else 2.8)) ** 2
    loss += 1.2 * (params["momentum"] - 0.9) ** 2 if is_sgd else 3 * (params["beta"] - 0.93) ** 2
    loss += 0.03 * (math.log10(params["decay"]) + 3.5) ** 2 + 0.5 * (params["dropout"] - 0.2) ** 2
    loss += {1: 0.25, 2: 0.05, 3: 0.0}[layers] + {"relu": 0.03, "gelu": 0.0, "tanh": 0.12}[params["activation"]]
    return loss + 0.08 * sum((math.log2(params[f"width{i}"]) - 9 + i) ** 2 for i in range(1, layers + 1)) / layers


def crashes(params: dict) -> float:
    """A part of the space is of no use at all."""
    x = numbers(params, 5)
    return 50.0 if x[0] + x[1] > 1.15 else sum((v - 0.55) ** 2 for v in x) + 0.15 * (1 - math.cos(8 * (x[2] - 0.55)))


def diverges(params: dict) -> float:
    """Best right below where the loss grows without bound."""
    rate = math.log10(params["rate"] / (1 - params["momentum"]))
    loss = 0.2 + 0.15 * (rate + 0.5) ** 2 + 0.02 * (math.log10(params["decay"]) + 3) ** 2
    return loss if rate < 0 else loss * 10 ** (4 * rate)


class Forest:
    """Steps everywhere, and flat between them."""

    def __init__(self, names: str):
        self.draw, self.names = random.Random(1), names
        self.trees = [self.grown(5) for _ in range(12)]

    def grown(self, depth: int):
        if depth == 0:
            return self.draw.gauss(0, 1)
        return self.draw.choice(self.names), self.draw.uniform(0.15, 0.85), self.grown(depth - 1), self.grown(depth - 1)

    def __call__(self, params: dict) -> float:
        x = {**params, "k": {"p": 0.0, "q": 0.5, "r": 1.0}[params["k"]], "m": (params["m"] - 1) / 7}
        total = 0.0
        for node in self.trees:
            while isinstance(node, tuple):
                name, bound, below, above = node
                node = below if x[name] < bound else above
            total += node
        return 1.2 + total / len(self.trees)


def mixed(number: int) -> Problem:
    """One to six choices of two to thirty, and one to six numbers, how many and how much each counts drawn: what a choice is
    worth by itself and in pairs, and where the numbers are best beside it."""
    draw = random.Random(f"mixed {number}")
    counts = [draw.choice((2, 3, 4, 6, 8, 12, 20, 30)) for _ in range(draw.choice((1, 1, 2, 3, 4, 6)))]
    reals_count = draw.choice((1, 2, 3, 4, 6))
    of_pairs, shift, steepness = draw.choice((0, 0.3, 0.6)), draw.choice((0, 0.1, 0.25)), draw.choice((1, 4, 10))
    worths = [math.exp(draw.gauss(-0.3, 0.7)) for _ in counts]
    centers = [draw.uniform(0.2, 0.8) for _ in range(reals_count)]
    steepnesses = [steepness * math.exp(draw.gauss(0, 0.7)) for _ in range(reals_count)]
    names = [f"c{place}" for place in range(len(counts))]

    def loss(params: dict) -> float:
        chosen = [params[name] for name in names]
        alone = sum(worth * effect(number, place, one) for place, (worth, one) in enumerate(zip(worths, chosen)))
        pairs = sum(
            effect(number, place, before, one, other)
            for place, one in enumerate(chosen)
            for before, other in enumerate(chosen[:place])
        )
        bowl = sum(
            steep * (x - center - shift * effect(number, "at", place, chosen[place % len(chosen)])) ** 2
            for place, (x, center, steep) in enumerate(zip(numbers(params, reals_count), centers, steepnesses))
        )
        return alone + of_pairs * pairs + bowl

    choices = {name: choice(*(f"v{place}" for place in range(count))) for name, count in zip(names, counts)}
    return Problem({**choices, **reals(reals_count)}, loss, 2.0, draw.choice((0.004, 0.03)))


LAYERS = {
    "layers": choice("1", "2", "3"),
    "width1": whole(16, 512, log=True),
    "width2": whole(16, 512, log=True, when={"layers": ["2", "3"]}),
    "width3": whole(16, 512, log=True, when={"layers": "3"}),
}
PROBLEMS = {
    "hartmann": Problem(reals(6), hartmann, 3.3, 0.004),
    "noisy": Problem(reals(6), hartmann, 3.3, 0.05),
    "branin": Problem(reals(2), branin, 60.0, 0.004),
    "rosenbrock": Problem(reals(6, -2, 2), rosenbrock(6), 300.0, 0.004),
    "log_rosenbrock": Problem(reals(10, -2, 2), lambda params: math.log1p(rosenbrock(10)(params)), 8.0, 0.004),
    "ackley": Problem(reals(20, -1, 1), ackley_of_five, 4.0, 0.004),
    "forest": Problem(
        {**{name: real(0, 1) for name in "abcdef"}, "k": choice(*"pqr"), "m": whole(1, 8)}, Forest("abcdefkm"), 1.0, 0.004
    ),
    "categories": Problem(
        {
            "three": choice(*"abc"), "five": choice(*"abcde"), "eight": choice(*"abcdefgh"), "ten": choice(*"abcdefghij"),
            **reals(4),
        },
        of_categories, 3.0, 0.004,
    ),
    "forty": Problem({"one": choice(*(f"v{i}" for i in range(40))), **reals(3)}, of_forty, 2.0, 0.004),
    "conditions": Problem(
        {
            "optimizer": choice("sgd", "adam"), "rate": real(1e-5, 1.0, log=True),
            "momentum": real(0.0, 0.99, when={"optimizer": "sgd"}), "beta": real(0.8, 0.999, when={"optimizer": "adam"}),
            "decay": real(1e-6, 1e-1, log=True), **LAYERS, "dropout": real(0.0, 0.6),
            "activation": choice("relu", "gelu", "tanh"),
        },
        of_conditions, 1.5, 0.004,
    ),
    "crashes": Problem(reals(5), crashes, 1.0, 0.004),
    "diverges": Problem(
        {"rate": real(1e-5, 10.0, log=True), "momentum": real(0.0, 0.99), "decay": real(1e-6, 1.0, log=True)},
        diverges, 1.0, 0.004,
    ),
}
MIXED = {f"mixed{number}": mixed(number) for number in range(60)}
ALL = PROBLEMS | MIXED
