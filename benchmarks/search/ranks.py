"""What the tables of searches and of real races share."""

# Of the time, where they look.
SHARES = (0.25, 0.5, 1.0)


def ranks(values: dict) -> dict:
    """1 for the least; equal values share the mean of their ranks."""
    ordered = sorted(values.values())
    return {key: ordered.index(value) + (ordered.count(value) + 1) / 2 for key, value in values.items()}


def aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]) for row in rows
    )
    return "\n".join(lines)
