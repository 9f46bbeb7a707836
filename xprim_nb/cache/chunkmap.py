"""Where the chunks of a model are, small enough to draw: one digit for each, or for each of 128 equal stretches.

Source: spec 3 §Views (PullPanel: "a chunk map").
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

__all__ = ["FETCHED", "IN_FLIGHT", "MISSING", "REUSED", "ChunkMap"]

MISSING, IN_FLIGHT, REUSED, FETCHED = range(4)
# As many as can be told apart in a notebook's width.
_MOST_CELLS = 128


class ChunkMap:
    """The state of each distinct chunk, in the manifest's order. Its owner holds a lock.

    Args:
        digests: The distinct chunks.
    """

    def __init__(self, digests: Iterable[str]) -> None:
        self._places = {digest: place for place, digest in enumerate(digests)}
        self._states = bytearray(len(self._places))

    def put(self, digest: str, state: int) -> None:
        """The chunk is verified and in place: `REUSED` or `FETCHED`."""
        self._states[self._places[digest]] = state

    def cells(self, in_flight: Iterable[str] = ()) -> str:
        """A digit a cell: a stretch is in flight when a chunk of it is, and missing until all of it is there.

        >>> found = ChunkMap(["a", "b", "c"])
        >>> found.put("a", FETCHED); found.cells(in_flight=["b"])
        '310'
        """
        states = bytearray(self._states)
        for digest in in_flight:
            place = self._places[digest]
            states[place] = states[place] or IN_FLIGHT
        count = len(states)
        if count <= _MOST_CELLS:
            return "".join(map(str, states))
        edges = [count * cell // _MOST_CELLS for cell in range(_MOST_CELLS + 1)]
        return "".join(str(_of(states[start:end])) for start, end in pairwise(edges))


def _of(stretch: bytearray) -> int:
    if IN_FLIGHT in stretch:
        return IN_FLIGHT
    return MISSING if MISSING in stretch else max(stretch)
