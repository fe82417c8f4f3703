"""The inner loops of other libraries, written quicker: the same draws and numbers, and so the same searches.

`scripts/bench-search --as-published` leaves the libraries as they are, to show that the searches are the same.
"""
from math import exp, log, log1p

from scipy.special import log_ndtr, ndtr, ndtri_exp
from scipy.stats import truncnorm


def truncated_normal(a: float, b: float, loc: float, scale: float, random_state) -> float:
    """One draw of `scipy.stats.truncnorm.rvs`, which spends most of its time on finding out that it is asked for one.

    The inverse of the distribution function, in logarithms, where the bounds lie on both sides of the mean.
    """
    if not a < 0 < b:
        return truncnorm.rvs(a, b, loc=loc, scale=scale, random_state=random_state)
    lower, drawn = log_ndtr(a), log(random_state.uniform()) + log1p(-ndtr(a) - ndtr(-b))
    less, more = sorted((lower, drawn))
    return ndtri_exp(more + log1p(exp(less - more))) * scale + loc


def truncated_normals():
    from optuna.samplers._tpe import _truncnorm

    _truncnorm._log_ndtr = log_ndtr  # which it computes number by number in Python


def optuna():
    from optuna.pruners import HyperbandPruner
    from optuna.search_space import IntersectionSearchSpace

    bracket_of, brackets = HyperbandPruner._get_bracket_id, {}
    space_of = IntersectionSearchSpace.calculate

    def remembered_bracket(self, study, trial):
        # It hashes the numbers of all trials at each report. A process has one study only.
        if not self._pruners:
            return bracket_of(self, study, trial)
        if trial.number not in brackets:
            brackets[trial.number] = bracket_of(self, study, trial)
        return brackets[trial.number]

    def first_space(self, study, use_cache=False):
        # What parameters all trials have in common: here every trial has all, so the first that ended tells.
        return dict(sorted(self._search_space.items())) if self._search_space else space_of(self, study, use_cache)

    truncated_normals()
    HyperbandPruner._get_bracket_id = remembered_bracket
    IntersectionSearchSpace.calculate = first_space


def syne_tune():
    from syne_tune.optimizer.schedulers.searchers.kde import kde_searcher

    class TruncatedNormal:
        rvs = staticmethod(truncated_normal)

    class Distributions:
        truncnorm = TruncatedNormal

    feature_of, features = kde_searcher.KernelDensityEstimator._to_feature, {}

    def remembered_feature(self, config):
        # It asks for those of all earlier trials at each proposal. A process has one space only.
        values = tuple(config[name] for name in self.config_space)
        if values not in features:
            features[values] = feature_of(self, config)
        return features[values]

    kde_searcher.sps = Distributions
    kde_searcher.KernelDensityEstimator._to_feature = remembered_feature
