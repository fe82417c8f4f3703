#!/usr/bin/env python3
"""Writes curves.parquet, the table of the tests of `regatta simulate` (pip install pyarrow)."""
import pathlib

import pyarrow
import pyarrow.parquet

ROWS = [
    (1, 1e-3, "a", 0, True, 0.90, 1.0),
    (2, 1e-3, "a", 0, True, 0.80, 2.5),
    (1, 1e-1, "a", 0, True, 0.70, 1.0),
    (2, 1e-1, "a", 0, True, 0.60, 2.0),
    (2, 1e-2, "b", 3, False, 0.40, 8.0),
    (1, 1e-2, "b", 3, False, 0.50, 4.0),
    (3, 1e-2, "b", 3, False, 0.30, 9.0),
]
NAMES = ["resource", "rate", "kind", "depth", "warm", "loss", "elapsed_s"]

columns = dict(zip(NAMES, (list(column) for column in zip(*ROWS))))
path = pathlib.Path(__file__).with_suffix(".parquet")
pyarrow.parquet.write_table(pyarrow.table(columns), path, compression="snappy")
