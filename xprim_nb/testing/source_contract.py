"""What every `Source` promises, as a pytest suite (needs pytest and pytest-asyncio in auto mode).

    class TestMySource(SourceContract):
        @pytest.fixture
        def source_for(self) -> Callable[[Path], Source]:
            return MySource                    # of a registry directory, served however it likes

Source: `xprim_nb.registry.sources.contract`; spec 1 §Client.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from xprim_nb.errors import HashMismatchError, RegistryError, StorageError
from xprim_nb.registry.manifest import MAX_DOCUMENT_BYTES
from xprim_nb.registry.sources import Source, SourceError
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes
from xprim_nb.testing.sinks import MemorySink

__all__ = ["PASSWORD", "SourceContract", "SourceFor"]

SourceFor = Callable[[Path], Source]

PASSWORD = "not-for-the-log"
"""An address that can hold a password holds this one: `http://reader:<PASSWORD>@127.0.0.1…`."""

_MODEL, _OTHER = "group/model v1", "group/model v2"
# Several blocks of any source, and no multiple of any block.
_CHUNK_BYTES = (3 << 20) + 17
_MISSING = "0" * 64
_NO_DIGESTS = {
    "empty": "",
    "index": "../models.json",
    "secret": "../secret",
    "absolute": "/etc/hostname",
    "upper case": "A" * 64,
    "short": "a" * 63,
    "long": "a" * 65,
    "newline": "a" * 64 + "\n",
    "query": "a" * 63 + "?",
    "part": "a" * 64 + "/../../secret",
}
# How long nothing has to happen until it counts as not happening; only a broken source is waited for in full.
_SILENCE_S = 0.2


@functools.cache
def _data() -> bytes:
    return random_bytes(1, 2 * _CHUNK_BYTES + 5)


class SourceContract:
    """Subclass it as `Test…` and give it the fixture `source_for`: a function from a registry directory to a `Source`.

    The source is closed by the suite; what serves the directory is closed by the fixture.
    """

    @pytest.fixture
    def made(self, tmp_path: Path) -> MadeRegistry:
        """A registry with one model of three chunks, and a file beside it that nobody may read."""
        made = make_registry(tmp_path / "registry", {_MODEL: {"w.bin": _data()}}, chunk_size=_CHUNK_BYTES)
        (made.root / "secret").write_bytes(b"secret")
        return made

    async def test_index_is_the_bytes_served(self, made: MadeRegistry, source_for: SourceFor) -> None:
        """The index comes as the raw bytes of `models.json`."""
        async with contextlib.aclosing(source_for(made.root)) as source:
            document = await source.index()
        assert document.raw == (made.root / "models.json").read_bytes()

    async def test_unchanged_index_is_not_sent_again(self, made: MadeRegistry, source_for: SourceFor) -> None:
        """Asked with the validators of the last answer, an unchanged index has no bytes and keeps its validators."""
        async with contextlib.aclosing(source_for(made.root)) as source:
            first = await source.index()
            assert first.etag or first.last_modified
            second = await source.index(first.etag, first.last_modified)
        assert second.raw is None
        assert (second.etag, second.last_modified) == (first.etag, first.last_modified)

    async def test_changed_index_is_sent(self, made: MadeRegistry, source_for: SourceFor) -> None:
        """Asked with old validators, a changed index comes whole, with new validators."""
        async with contextlib.aclosing(source_for(made.root)) as source:
            first = await source.index()
            made.put_entry(_OTHER, made.entry(_MODEL))
            second = await source.index(first.etag, first.last_modified)
        assert second.raw is not None
        assert "v2" in json.loads(second.raw)["group"]["model"]
        assert (second.etag, second.last_modified) != (first.etag, first.last_modified)

    async def test_strange_validators_bring_the_index(
        self, made: MadeRegistry, source_for: SourceFor
    ) -> None:
        """Validators that came from elsewhere never make an index look unchanged."""
        async with contextlib.aclosing(source_for(made.root)) as source:
            document = await source.index('"of another server"', "Thu, 01 Jan 1970 00:00:00 GMT")
        assert document.raw is not None

    async def test_document_is_the_bytes_served(self, made: MadeRegistry, source_for: SourceFor) -> None:
        """A manifest comes as its raw bytes."""
        digest = made.manifest_hash(_MODEL)
        async with contextlib.aclosing(source_for(made.root)) as source:
            assert await source.document(digest) == made.object_path(digest).read_bytes()

    async def test_chunk_fills_the_sink(self, made: MadeRegistry, source_for: SourceFor) -> None:
        """A chunk arrives whole and in order, from its first byte to its last."""
        async with contextlib.aclosing(source_for(made.root)) as source:
            for digest in made.chunks(_MODEL):
                sink = self._sink(made, digest)
                await source.chunk(digest, sink)
                assert sink.complete
                assert sink.restarts == 0

    async def test_chunks_at_once_do_not_mix(self, made: MadeRegistry, source_for: SourceFor) -> None:
        """Eight fetches at the same time each fill their own sink."""
        digests = (made.chunks(_MODEL) * 3)[:8]
        sinks = [self._sink(made, digest) for digest in digests]
        async with contextlib.aclosing(source_for(made.root)) as source:
            await asyncio.gather(*map(source.chunk, digests, sinks))
        assert all(sink.complete for sink in sinks)

    @pytest.mark.parametrize("received", [1, _CHUNK_BYTES // 2, _CHUNK_BYTES - 1])
    async def test_chunk_goes_on_where_the_sink_is(
        self, made: MadeRegistry, source_for: SourceFor, received: int
    ) -> None:
        """A sink that has the first bytes already gets the rest, and only the rest."""
        digest = made.chunks(_MODEL)[0]
        sink = MemorySink.for_bytes(made.object_path(digest).read_bytes(), received=received)
        async with contextlib.aclosing(source_for(made.root)) as source:
            await source.chunk(digest, sink)
        assert sink.complete
        assert sink.restarts == 0

    @pytest.mark.parametrize("received", [0, 1000])
    @pytest.mark.parametrize("by", [-7, 7])
    async def test_chunk_of_another_length_is_refused(
        self, made: MadeRegistry, source_for: SourceFor, by: int, received: int
    ) -> None:
        """A body that is shorter or longer than the manifest says is a HashMismatchError; no byte too many is taken."""
        digest = made.chunks(_MODEL)[0]
        data = made.object_path(digest).read_bytes()
        sink = MemorySink.for_bytes(data, received=received)
        made.object_path(digest).write_bytes(data[:by] if by < 0 else data + bytes(by))
        async with contextlib.aclosing(source_for(made.root)) as source:
            with pytest.raises(HashMismatchError):
                await source.chunk(digest, sink)
        assert sink.received <= sink.size_bytes

    async def test_what_is_missing_is_final(
        self, tmp_path: Path, made: MadeRegistry, source_for: SourceFor
    ) -> None:
        """An index, document or chunk that is not there is a SourceError that says that trying again is no use."""
        (tmp_path / "empty").mkdir()
        async with contextlib.aclosing(source_for(tmp_path / "empty")) as source:
            with pytest.raises(SourceError) as index:
                await source.index()
        sink = MemorySink(_MISSING, 10)
        async with contextlib.aclosing(source_for(made.root)) as source:
            with pytest.raises(SourceError) as document:
                await source.document(_MISSING)
            with pytest.raises(SourceError) as chunk:
                await source.chunk(_MISSING, sink)
        assert [error.value.retryable for error in (index, document, chunk)] == [False] * 3
        assert all(error.value.subject for error in (index, document, chunk))
        assert sink.received == 0

    @pytest.mark.parametrize("name", _NO_DIGESTS.values(), ids=_NO_DIGESTS)
    async def test_names_that_are_no_digest_are_refused(
        self, made: MadeRegistry, source_for: SourceFor, name: str
    ) -> None:
        """Only 64 lower-case hexadecimal digits become a file name or a URL; all else is a RegistryError."""
        sink = MemorySink(name, len(b"secret"))
        async with contextlib.aclosing(source_for(made.root)) as source:
            with pytest.raises(RegistryError):
                await source.document(name)
            with pytest.raises(RegistryError):
                await source.chunk(name, sink)
        assert sink.received == sink.restarts == 0

    async def test_documents_have_a_largest_size(self, made: MadeRegistry, source_for: SourceFor) -> None:
        """An index or a document above the cap is a RegistryError, however the disk or the server looks."""
        digest = made.manifest_hash(_MODEL)
        for path in (made.root / "models.json", made.object_path(digest)):
            with path.open("r+b") as file:
                file.truncate(MAX_DOCUMENT_BYTES + 1)
        async with contextlib.aclosing(source_for(made.root)) as source:
            with pytest.raises(RegistryError):
                await source.index()
            with pytest.raises(RegistryError):
                await source.document(digest)

    @pytest.mark.parametrize("times", [1, 3])
    async def test_cancellation_leaves_no_writer(
        self, made: MadeRegistry, source_for: SourceFor, times: int
    ) -> None:
        """After a cancelled fetch, cancelled again while it cleans up or not, nobody writes to the sink any more."""
        digest = made.chunks(_MODEL)[0]
        loop, begun, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

        def hold_first_block(_: int) -> None:
            loop.call_soon_threadsafe(begun.set)
            go_on.wait(5)

        sink = self._sink(made, digest, hold_first_block)
        async with contextlib.aclosing(source_for(made.root)) as source:
            fetching = asyncio.ensure_future(source.chunk(digest, sink))
            await asyncio.wait_for(begun.wait(), 5)
            # Let go by a third thread: a source may block the loop until the block that is being written is done.
            threading.Timer(_SILENCE_S / 4, go_on.set).start()
            for _ in range(times):
                fetching.cancel()
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await fetching
            sink.close()
            assert not await asyncio.to_thread(sink.late.wait, _SILENCE_S)
            assert 0 < sink.received <= sink.size_bytes

            again = self._sink(made, digest)
            await source.chunk(digest, again)
            assert again.complete

    async def test_a_failing_sink_is_heard(self, made: MadeRegistry, source_for: SourceFor) -> None:
        """What the sink raises comes out as it is, and the source can be used again."""
        digest = made.chunks(_MODEL)[0]

        def refuse(_: int) -> None:
            raise StorageError("the disk is full.", subject="sink")

        async with contextlib.aclosing(source_for(made.root)) as source:
            with pytest.raises(StorageError, match="the disk is full"):
                await source.chunk(digest, self._sink(made, digest, refuse))
            sink = self._sink(made, digest)
            await source.chunk(digest, sink)
        assert sink.complete

    async def test_closing_twice_is_closing_once(self, made: MadeRegistry, source_for: SourceFor) -> None:
        """`aclose` may be called again, and before anything was asked."""
        unused = source_for(made.root)
        await unused.aclose()
        await unused.aclose()
        used = source_for(made.root)
        await used.index()
        await used.aclose()
        await used.aclose()

    async def test_nobody_sees_a_password(self, made: MadeRegistry, source_for: SourceFor) -> None:
        """The URL names the place without its password, in the source and in its errors."""
        async with contextlib.aclosing(source_for(made.root)) as source:
            assert source.url
            with pytest.raises(SourceError) as missing:
                await source.document(_MISSING)
            for text in (
                source.url,
                repr(source),
                str(missing.value),
                missing.value.subject,
                missing.value.hint,
            ):
                assert PASSWORD not in text

    async def test_it_says_whether_it_needs_the_network(
        self, made: MadeRegistry, source_for: SourceFor
    ) -> None:
        """`needs_network` is a plain yes or no: offline mode depends on it."""
        async with contextlib.aclosing(source_for(made.root)) as source:
            assert source.needs_network in (True, False)

    @staticmethod
    def _sink(made: MadeRegistry, digest: str, on_write: Callable[[int], None] | None = None) -> MemorySink:
        return MemorySink(digest, made.object_path(digest).stat().st_size, on_write=on_write)
