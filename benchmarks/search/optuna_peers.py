"""Optuna as its users ask and tell it: https://optuna.readthedocs.io, "Ask-and-Tell Interface"."""
import warnings

import optuna
from optuna.pruners import HyperbandPruner, NopPruner
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import TrialState

from lanes import Start
from space import EPOCHS, SPACE

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class Optuna:
    def __init__(self, sampler, pruner, seed: int):
        # The name, because the Hyperband pruner hashes it to say in which bracket a trial is.
        self.study = optuna.create_study(
            study_name=f"seed-{seed}", direction="maximize", sampler=sampler, pruner=pruner
        )
        self.trials = {}

    def ask(self) -> Start:
        trial = self.study.ask()
        self.trials[trial.number] = trial
        suggest_by_kind = {"int": trial.suggest_int, "float": trial.suggest_float}
        params = {p.name: suggest_by_kind[p.kind](p.name, p.low, p.high, log=p.log) for p in SPACE}
        return Start(trial.number, params)

    def report(self, number: int, epoch: int, value: float) -> bool:
        trial = self.trials[number]
        trial.report(value, epoch)
        if epoch == EPOCHS:
            self.study.tell(trial, value)
            return False
        if trial.should_prune():
            self.study.tell(trial, state=TrialState.PRUNED)
            return False
        return True


def random(seed: int) -> Optuna:
    return Optuna(RandomSampler(seed=seed), NopPruner(), seed)


def tpe_hyperband(seed: int) -> Optuna:
    sampler = TPESampler(seed=seed, multivariate=True, constant_liar=True)
    return Optuna(sampler, HyperbandPruner(min_resource=1, max_resource=EPOCHS, reduction_factor=3), seed)
