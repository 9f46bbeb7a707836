"""Both savers keep the contract of a checkpoint saver."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from langchain_core.runnables import RunnableConfig

from xprim_nb.errors import ConfigError, StorageError
from xprim_nb.prompts.checkpoints import Saver, SqliteSaver
from xprim_nb.testing.checkpoint_contract import CheckpointContract
from xprim_nb.testing.checkpoints_given import at, long, put, values_of


class TestSaver(CheckpointContract):
    """On SQLite and on PostgreSQL, by the fixture of this folder."""

    @pytest.fixture
    def saver(self, open_saver: Callable[[], Saver]) -> Iterator[Saver]:
        """A saver over an empty database."""
        with open_saver() as saver:
            yield saver


def test_a_damaged_value_is_told_and_the_rest_is_read(saver: Saver) -> None:
    """A stored value that is not what its name says is refused by name; checkpoints without it are still read."""
    good = put(saver, at("t"), {"text": long("good")})
    bad = put(saver, good, {"text": long("bad")}, version=2)
    saver.database.write(
        lambda each: each.run("UPDATE xprim_blobs SET sealed = (SELECT min(sealed) FROM xprim_blobs)")
    )
    fresh = type(saver)(saver.database)
    refused = [each for each in (good, bad) if _is_damaged(fresh, each)]
    assert refused in ([good], [bad])


def _is_damaged(saver: Saver, config: RunnableConfig) -> bool:
    try:
        assert values_of(saver, config)["text"] in (long("good"), long("bad"))
    except StorageError as error:
        return "damaged" in str(error)
    return False


@pytest.mark.parametrize("path", [":memory:", "", "file:x?mode=memory"])
def test_what_is_no_file_is_refused(path: str) -> None:
    """A memory of each thread's own would come back empty; the error says so, and no file of that name is made."""
    with pytest.raises(ConfigError, match="is no file"):
        SqliteSaver.open(path)
