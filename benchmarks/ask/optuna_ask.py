"""Times how long Optuna takes to propose a trial with so many told and so many still running: a JSON line a case.

The cases are those of Regatta's `cargo run --release -p regatta-search --example ask_time`: in a mixed space, of which
the pattern is here and there the same, random trials are told, each with the sum of (value - 0.3)^2 over its numbers.
Each ask is timed alone; then the trial that runs longest is told, so that as many run as before.
"""
import json
import math
import random
import statistics
import sys
import time
import warnings

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import GPSampler, TPESampler
from optuna.trial import TrialState

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)

PATTERN = (  # repeated for as many parameters as there are
    FloatDistribution(0.0, 1.0),
    FloatDistribution(-1.0, 1.0),
    FloatDistribution(1e-5, 1.0, log=True),
    IntDistribution(1, 20),
    CategoricalDistribution(("a", "b", "c", "d")),
    CategoricalDistribution((False, True)),
)
PENDING = 32
CASES = (  # sampler, parameters, trials told, asks timed
    ("tpe", 6, 1_000, 50),
    ("tpe", 6, 10_000, 20),
    ("tpe", 20, 1_000, 50),
    ("tpe", 20, 10_000, 20),
    ("gp", 6, 1_000, 5),
)


def value_of(params: dict) -> float:
    return sum((value - 0.3) ** 2 for value in params.values() if not isinstance(value, (str, bool)))


def random_value(distribution, rng: random.Random):
    if isinstance(distribution, CategoricalDistribution):
        return rng.choice(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return rng.randint(distribution.low, distribution.high)
    if distribution.log:
        return math.exp(rng.uniform(math.log(distribution.low), math.log(distribution.high)))
    return rng.uniform(distribution.low, distribution.high)


def random_trial(space: dict, rng: random.Random, is_running: bool) -> optuna.trial.FrozenTrial:
    params = {name: random_value(distribution, rng) for name, distribution in space.items()}
    if is_running:
        return optuna.create_trial(state=TrialState.RUNNING, params=params, distributions=space)
    return optuna.create_trial(params=params, distributions=space, value=value_of(params))


def ask_ms(sampler, parameters: int, trials: int, asks: int) -> list[float]:
    space = {f"p{index:02}": PATTERN[index % len(PATTERN)] for index in range(parameters)}
    rng = random.Random(1)
    study = optuna.create_study(sampler=sampler)
    for number in range(trials + PENDING):
        study.add_trial(random_trial(space, rng, is_running=number >= trials))
    took = []
    for oldest in range(trials, trials + asks):
        began = time.perf_counter()
        study.ask(space)
        took.append(1e3 * (time.perf_counter() - began))
        study.tell(oldest, value_of(study.get_trials(deepcopy=False)[oldest].params))
    return took


def sampler_named(name: str):
    if name == "gp":
        return GPSampler(seed=1)
    return TPESampler(seed=1, multivariate=True, constant_liar=True)


def main():
    for name, parameters, trials, asks in CASES:
        print(f"bench-ask: Optuna's {name}, {parameters} parameters, {trials} trials", file=sys.stderr)
        try:
            took = ask_ms(sampler_named(name), parameters, trials, asks)
        except ModuleNotFoundError as error:
            print(f"bench-ask: skipped: Optuna's {name} needs {error.name}", file=sys.stderr)
            continue
        case = {"sampler": name, "parameters": parameters, "trials": trials, "pending": PENDING}
        p90 = statistics.quantiles(took, n=10, method="inclusive")[-1]
        print(json.dumps({**case, "median_ms": statistics.median(took), "p90_ms": p90}), flush=True)


main()
