"""What is compared: Regatta's samplers and stoppers, and other libraries."""

# Each library's method, and the environment of scripts/setup-peers that it lives in.
ENVIRONMENT_BY_PEER = {
    "optuna-random": "peers",
    "optuna-tpe-hyperband": "peers",
    "syne-tune-asha": "peers",
    "syne-tune-bohb": "peers",
    "syne-tune-asha-cqr": "peers",
    "syne-tune-asha-promotion": "peers-promotion",
    "syne-tune-bohb-promotion": "peers-promotion",
}
SAMPLERS = ("random", "tpe", "gp", "cqr", "auto")
STOPPERS = ("none", "median", "asha")
OURS = tuple(f"regatta-{sampler}-{stopper}" for sampler in SAMPLERS for stopper in STOPPERS)

# Beside each peer: what a study file that names neither gets, no model at all, Maggy's median rule, plain ASHA, and the
# models with ASHA.
DEFAULT = (
    "regatta-auto-asha",
    "regatta-tpe-asha",
    "regatta-gp-asha",
    "regatta-cqr-asha",
    "regatta-random-asha",
    "regatta-random-median",
    "regatta-random-none",
    *ENVIRONMENT_BY_PEER,
)


def peer(method: str, seed: int):
    """The scheduler of a method; imports its library alone, since not every environment has them all."""
    if method.startswith("optuna"):
        import optuna_peers

        return {"optuna-random": optuna_peers.random, "optuna-tpe-hyperband": optuna_peers.tpe_hyperband}[method](seed)
    import syne_tune_peers

    schedulers = {
        "syne-tune-asha": syne_tune_peers.asha,
        "syne-tune-bohb": syne_tune_peers.bohb,
        "syne-tune-asha-cqr": syne_tune_peers.asha_cqr,
        "syne-tune-asha-promotion": syne_tune_peers.asha_promotion,
        "syne-tune-bohb-promotion": syne_tune_peers.bohb_promotion,
    }
    return schedulers[method](seed)
