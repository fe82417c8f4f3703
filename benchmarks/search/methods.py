"""What is compared: Regatta's samplers and stoppers, and other libraries."""
from importlib.metadata import version

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
SAMPLERS = ("random", "sobol", "tpe", "gp", "cqr", "auto")
STOPPERS = {
    "none": "none",
    "median": "median",
    "asha": "asha",
    "promotion": {"name": "asha", "mode": "promote"},
}
OURS = tuple(f"regatta-{sampler}-{stopper}" for sampler in SAMPLERS for stopper in STOPPERS)

# What is compared where nobody says: what the automatic sampler does, the models with ASHA, plain ASHA, Maggy's median
# rule and random search, beside the peers. Not two peers whose every search takes minutes of a CPU: name them to have
# them.
DEFAULT = (
    "regatta-auto-asha",
    "regatta-tpe-asha",
    "regatta-gp-asha",
    "regatta-cqr-asha",
    "regatta-random-asha",
    "regatta-random-promotion",
    "regatta-random-median",
    "regatta-random-none",
    "optuna-random",
    "optuna-tpe-hyperband",
    "syne-tune-asha",
    "syne-tune-asha-promotion",
    "syne-tune-bohb",
)


def library(method: str) -> str:
    """Its name and version, in the environment of the method."""
    name = "optuna" if method.startswith("optuna") else "syne-tune"
    return f"{name} {version(name)}"


def peer(method: str, seed: int, as_published: bool = False):
    """The scheduler of a method; imports its library alone, since not every environment has them all."""
    import quicker

    if method.startswith("optuna"):
        import optuna_peers

        if not as_published:
            quicker.optuna()
        return optuna_peers.random(seed) if method == "optuna-random" else optuna_peers.tpe_hyperband(seed)
    import syne_tune_peers

    if method == "syne-tune-bohb" and not as_published:
        quicker.syne_tune()
    schedulers = {
        "syne-tune-asha": syne_tune_peers.asha,
        "syne-tune-bohb": syne_tune_peers.bohb,
        "syne-tune-asha-cqr": syne_tune_peers.asha_cqr,
        "syne-tune-asha-promotion": syne_tune_peers.asha_promotion,
        "syne-tune-bohb-promotion": syne_tune_peers.bohb_promotion,
    }
    return schedulers[method](seed)
