"""LCBench's search space and tasks, once, for the peers, for Regatta's study files and for the reference alike."""
import math
from dataclasses import dataclass

EPOCHS = 52
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


SPACE = (
    Parameter("batch_size", "int", 16, 512, log=True),
    Parameter("learning_rate", "float", 1e-4, 1e-1, log=True),
    Parameter("momentum", "float", 0.1, 0.99),
    Parameter("weight_decay", "float", 1e-5, 1e-1),
    Parameter("num_layers", "int", 1, 5),
    Parameter("max_units", "int", 64, 1024, log=True),
    Parameter("max_dropout", "float", 0.0, 1.0),
)
