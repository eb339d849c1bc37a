"""Collects garbage in the thread that works, and in no other, while jobs run.

TensorFlow holds a graph's lock while it waits for Python's, and the collector, which holds Python's, waits for the
graph's: a collection in any other thread than the one that builds graphs (Dask's, or that of a progress display) can
stop both for good. So the collector is off (`bench.store.store.uncollected`), and the thread that works calls
`collect` between two steps.
"""

from __future__ import annotations

import gc

MANY = 30_000  # objects since the last collection of young ones
FULL = 20  # of those collections between two of all objects


def collect() -> None:
    """Collect the garbage, where there may be much of it; to be called when this thread is in no operation."""
    if gc.isenabled():
        return
    young, _, old = gc.get_count()
    if young > MANY:
        gc.collect(2 if old > FULL else 1)
