"""Writes table.parquet: `pip install pyarrow`, then `python table.py` in this folder."""

import pyarrow as pa
import pyarrow.parquet as pq

rows = range(12)
table = pa.table({
    "size": pa.array([row / 4 for row in rows], pa.float64()),
    "count": pa.array([row * 3 for row in rows], pa.int32()),
    "big": pa.array([row + 2**40 for row in rows], pa.int64()),
    "is_new": pa.array([row % 2 == 0 for row in rows]),
    "color": pa.array([["red", "green", "blue"][row % 3] for row in rows]),
    "half": pa.array([None if row == 5 else row for row in rows], pa.int16()),
    "y": pa.array([row % 2 for row in rows], pa.uint8()),
})
pq.write_table(table, "table.parquet", compression="snappy", row_group_size=5)
