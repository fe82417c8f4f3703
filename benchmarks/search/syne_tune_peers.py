"""Syne Tune as its own tuner asks and tells it (`Tuner._schedule_new_task`, `Tuner._update_running_trials`)."""
import contextlib
import datetime
import io
import logging

import numpy as np

logging.disable(logging.WARNING)
with contextlib.redirect_stdout(io.StringIO()):  # it prints what else could be installed
    import syne_tune.config_space as domains
    from syne_tune.backend.trial_status import Trial
    from syne_tune.optimizer import baselines
    from syne_tune.optimizer.scheduler import SchedulerDecision

from lanes import Start
from space import EPOCHS, SPACE

DOMAINS = {
    ("float", False): domains.uniform,
    ("float", True): domains.loguniform,
    ("int", False): domains.randint,  # both bounds included
    ("int", True): domains.lograndint,
}
CONFIG_SPACE = {p.name: DOMAINS[p.kind, p.log](p.low, p.high) for p in SPACE}


class SyneTune:
    def __init__(self, scheduler, suggest):
        self.scheduler = scheduler
        self.suggest = suggest
        self.trials, self.epochs_by_trial = {}, {}

    def ask(self) -> Start:
        suggestion = self.suggest(len(self.trials))
        if suggestion.spawn_new_trial_id:
            trial = Trial(len(self.trials), suggestion.config, datetime.datetime.now())
            self.trials[trial.trial_id] = trial
            self.scheduler.on_trial_add(trial)
            return Start(trial.trial_id, {p.name: suggestion.config[p.name] for p in SPACE})
        trial = self.trials[int(suggestion.checkpoint_trial_id)]
        return Start(trial.trial_id, trial.config, self.epochs_by_trial[trial.trial_id])

    def report(self, number: int, epoch: int, value: float) -> bool:
        trial, result = self.trials[number], {"value": value, "epoch": epoch}
        self.epochs_by_trial[number] = epoch
        decision = self.scheduler.on_trial_result(trial, result)
        if decision != SchedulerDecision.CONTINUE:
            self.scheduler.on_trial_remove(trial)
        elif epoch == EPOCHS:
            self.scheduler.on_trial_complete(trial, result)
        return decision == SchedulerDecision.CONTINUE


def of_now(scheduler_class, seed: int) -> SyneTune:
    np.random.seed(seed)  # its kernel density searcher draws some configurations from there
    scheduler = scheduler_class(
        CONFIG_SPACE, metric="value", time_attr="epoch", max_t=EPOCHS, do_minimize=False, random_seed=seed
    )
    return SyneTune(scheduler, lambda _: scheduler.suggest())


def of_0_13(scheduler_class, seed: int, kind: str) -> SyneTune:
    np.random.seed(seed)
    scheduler = scheduler_class(
        CONFIG_SPACE, metric="value", resource_attr="epoch", max_t=EPOCHS, mode="max", type=kind, random_seed=seed
    )
    return SyneTune(scheduler, lambda number: scheduler.suggest(str(number)))


def asha(seed: int) -> SyneTune:
    return of_now(baselines.ASHA, seed)


def bohb(seed: int) -> SyneTune:
    return of_now(baselines.BOHB, seed)


def asha_cqr(seed: int) -> SyneTune:
    return of_now(baselines.ASHACQR, seed)


def asha_promotion(seed: int) -> SyneTune:
    return of_0_13(baselines.ASHA, seed, "promotion")


def bohb_promotion(seed: int) -> SyneTune:
    return of_0_13(baselines.BOHB, seed, "promotion")
