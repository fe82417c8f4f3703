"""The search spaces, once, for the peers, for Regatta's study files and for the reference alike: LCBench's and its tasks,
and, where REGATTA_BENCH_SPACE says `fashion`, that of scripts/bench-real."""
import math
import os
from dataclasses import dataclass

TASKS = ("3945", "7593", "34539", "126025", "167161", "168868", "189354", "189906")


@dataclass(frozen=True)
class Parameter:
    name: str
    kind: str  # float or int
    low: float
    high: float
    log: bool = False

    def at(self, unit: float):
        """The value at a share of the way from low to high; each whole number has an equal share of the way."""
        margin = 0.5 if self.kind == "int" else 0.0
        low, high = self.low - margin, self.high + margin
        value = math.exp(math.log(low) + unit * math.log(high / low)) if self.log else low + unit * (high - low)
        value = round(value) if self.kind == "int" else value
        return min(max(value, self.low), self.high)


LCBENCH = (
    Parameter("batch_size", "int", 16, 512, log=True),
    Parameter("learning_rate", "float", 1e-4, 1e-1, log=True),
    Parameter("momentum", "float", 0.1, 0.99),
    Parameter("weight_decay", "float", 1e-5, 1e-1),
    Parameter("num_layers", "int", 1, 5),
    Parameter("max_units", "int", 64, 1024, log=True),
    Parameter("max_dropout", "float", 0.0, 1.0),
)

# A small convolutional net for Fashion-MNIST.
FASHION = (
    Parameter("learning_rate", "float", 1e-4, 1e-1, log=True),
    Parameter("weight_decay", "float", 1e-5, 1e-1, log=True),
    Parameter("width", "int", 4, 16, log=True),
    Parameter("hidden", "int", 16, 128, log=True),
    Parameter("dropout", "float", 0.0, 0.6),
    Parameter("smoothing", "float", 0.0, 0.2),
)
SPACE, EPOCHS = {"lcbench": (LCBENCH, 52), "fashion": (FASHION, 27)}[os.environ.get("REGATTA_BENCH_SPACE", "lcbench")]
