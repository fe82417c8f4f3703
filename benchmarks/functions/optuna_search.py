"""One search by Optuna in virtual time: optuna_search.py METHOD PROBLEM LANES SEED SECONDS prints a JSON line."""
import json
import sys
import warnings

import optuna
import quicker
from lanes import Start, simulate
from optuna.pruners import HyperbandPruner, NopPruner
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import TrialState
from problems import ALL, EPOCHS

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class Optuna:
    """The fleet maximizes, so it is told and tells losses with the other sign."""

    def __init__(self, method: str, space: dict, seed: int):
        if method == "optuna-random":
            sampler, pruner = RandomSampler(seed=seed), NopPruner()
        else:
            sampler = TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
            pruner = HyperbandPruner(min_resource=1, max_resource=EPOCHS, reduction_factor=3)
        # The name, because the pruner hashes it to say in which bracket a trial is.
        self.study = optuna.create_study(study_name=f"seed-{seed}", sampler=sampler, pruner=pruner)
        self.space, self.trials = space, {}

    def ask(self) -> Start:
        trial, params = self.study.ask(), {}
        for name, about in self.space.items():
            if self.exists(about, params):
                params[name] = self.suggested(trial, name, about)
        self.trials[trial.number] = trial
        return Start(trial.number, params)

    @staticmethod
    def exists(about: dict, params: dict) -> bool:
        conditions = about.get("when", {}).items()
        return all(params.get(of) in (wanted if isinstance(wanted, list) else [wanted]) for of, wanted in conditions)

    @staticmethod
    def suggested(trial, name: str, about: dict):
        if about["type"] == "categorical":
            return trial.suggest_categorical(name, about["choices"])
        suggest = trial.suggest_int if about["type"] == "int" else trial.suggest_float
        return suggest(name, about["low"], about["high"], log=about.get("log", False))

    def report(self, number: int, epoch: int, value: float) -> bool:
        trial = self.trials[number]
        trial.report(-value, epoch)
        if epoch == EPOCHS:
            self.study.tell(trial, -value)
            return False
        if trial.should_prune():
            self.study.tell(trial, state=TrialState.PRUNED)
            return False
        return True


def main():
    method, name = sys.argv[1:3]
    lanes, seed, seconds = int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
    problem = ALL[name]
    quicker.truncated_normals()

    def curve_of(params: dict):
        values, elapsed = problem.curve(params)
        return [-value for value in values], elapsed

    found = simulate(Optuna(method, problem.space, seed), curve_of, lanes, seconds, EPOCHS)
    print(json.dumps({"trials": found["trials"], "curve": [[at, -value] for at, value in found["curve"]]}))


main()
