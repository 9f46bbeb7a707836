"""The chunk map: one digit a chunk, or a stretch of them, and never more than fit on a line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xprim_nb.cache.chunkmap import FETCHED, IN_FLIGHT, MISSING, REUSED, ChunkMap


def test_each_chunk_has_its_digit() -> None:
    """Few chunks are shown one by one; what is in place already is not in flight."""
    found = ChunkMap("abcd")
    found.put("a", REUSED)
    found.put("c", FETCHED)
    assert found.cells(in_flight="bc") == f"{REUSED}{IN_FLIGHT}{FETCHED}{MISSING}"


@given(st.integers(0, 2000), st.data())
def test_a_stretch_is_missing_until_all_of_it_is_there(count: int, data: st.DataObject) -> None:
    """There are at most 128 cells, all chunks are in them, and the last chunk to come completes its cell."""
    names = [str(number) for number in range(count)]
    found = ChunkMap(names)
    assert set(found.cells()) <= {str(MISSING)}
    assert len(found.cells()) == min(count, 128)
    for name in names:
        found.put(name, FETCHED)
    assert set(found.cells()) <= {str(FETCHED)}
    if names:
        lost = data.draw(st.sampled_from(names))
        found.put(lost, MISSING)
        assert found.cells().count(str(MISSING)) == 1
        assert found.cells(in_flight=[lost]).count(str(IN_FLIGHT)) == 1
