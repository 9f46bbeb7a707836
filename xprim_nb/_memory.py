"""Make many objects at once without the collector looking through all of them again and again.

Source: Python's `gc`: a young collection every 700 new containers, and from time to time all of them; of a list that
only grows none is garbage. Measured: a third of the time that listing 10,000 models takes.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["uncollected"]


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """No cyclic garbage is looked for inside, in the whole process; for milliseconds, and nothing that waits."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
