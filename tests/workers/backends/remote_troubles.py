"""What can go wrong with a server, and what each backend that talks to one makes of it: one suite for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from xprim_nb.errors import (
    KeyRefusedError,
    NotInstalledError,
    OfflineError,
    ProviderError,
    RateLimitedError,
    XprimError,
)
from xprim_nb.testing.backend_contract import read
from xprim_nb.workers.contract import Backend, BackendContext, Library, Runner
from xprim_nb.workers.values import (
    GenerateRequest,
    LoadOptions,
    LocalModel,
    Message,
    Piece,
    Recommended,
    Sampling,
)

from .peers import Peer, nobody

__all__ = ["KEY", "NoLibrary", "RemoteTroubles"]

KEY = "sk-never-shown-0123456789abcdef"
_REQUEST = GenerateRequest(messages=(Message("user", "Once"),), sampling=Sampling(max_tokens=8))


class NoLibrary(Library):
    """Servers have their own models: nothing of this is ever asked."""

    async def find(self, name: str) -> LocalModel | None:
        """Never asked."""
        raise AssertionError(name)

    async def install(self, name: str, progress: Any) -> LocalModel:
        """Never asked."""
        raise AssertionError(name)

    async def recommended(self) -> list[Recommended]:
        """Never asked."""
        raise AssertionError

    async def hold(self, name: str) -> Callable[[], None]:
        """Never asked."""
        raise AssertionError(name)


class RemoteTroubles:
    """Subclass it with the fixtures `peer` and `available`, and say how the backend is made and what it asks."""

    name = ""
    prompt_path = ""
    list_path = ""

    def make(self, context: BackendContext) -> Backend:
        """The backend under test."""
        raise NotImplementedError

    def quoting(self, message: str) -> object:
        """The body of a refusal, as this kind of server words it."""
        return {"error": {"message": message, "type": "some_error", "param": None, "code": None}}

    def url(self, base: str) -> str:
        """The address that a user would give."""
        return base

    def context(self, base: str, **more: Any) -> BackendContext:
        """A context with that address."""
        return BackendContext(NoLibrary(), endpoints={self.name: self.url(base)}, **more)

    @pytest.fixture
    async def troubled(self, peer: Peer) -> AsyncIterator[Backend]:
        """The backend, with a key that must not be seen."""
        backend = self.make(self.context(peer.url, keys={self.name: KEY}))
        yield backend
        await backend.aclose()

    @pytest.fixture
    async def asking(self, troubled: Backend, available: str) -> AsyncIterator[Runner]:
        """A loaded model."""
        runner = await troubled.load(available, LoadOptions(), lambda *_: None)
        yield runner
        await runner.close()

    @pytest.mark.parametrize(
        ("status", "kind", "retryable"),
        [
            (400, ProviderError, False),
            (401, KeyRefusedError, False),
            (403, KeyRefusedError, False),
            (404, NotInstalledError, None),
            (408, ProviderError, True),
            (418, ProviderError, False),
            (429, RateLimitedError, True),
            (500, ProviderError, True),
            (503, ProviderError, True),
            (529, ProviderError, True),
        ],
    )
    async def test_a_refusal_is_understood(
        self, peer: Peer, asking: Runner, status: int, kind: type[XprimError], retryable: bool | None
    ) -> None:
        """Each status is the error that a caller can act on, in the server's words."""
        peer.troubles.refuse(
            self.prompt_path, status, self.quoting("the model says no"), {"retry-after": "7"}
        )
        with pytest.raises(XprimError, match="the model says no") as caught:
            await read(asking.generate(_REQUEST))
        error = caught.value
        assert type(error) is kind
        assert error.subject
        assert error.hint
        assert getattr(error, "retryable", None) == retryable
        assert getattr(error, "status", status) == status
        if isinstance(error, RateLimitedError):
            assert error.retry_after_s == 7.0

    async def test_a_spent_quota_is_not_waited_for(self, peer: Peer, asking: Runner) -> None:
        """429 for an account without credit is final: no wait would help."""
        body = {"error": {"message": "You exceeded your current quota.", "code": "insufficient_quota"}}
        peer.troubles.refuse(self.prompt_path, 429, body)
        with pytest.raises(ProviderError, match="quota") as caught:
            await read(asking.generate(_REQUEST))
        assert not isinstance(caught.value, RateLimitedError)
        assert not caught.value.retryable

    async def test_a_refused_question_can_be_asked_again(self, peer: Peer, asking: Runner) -> None:
        """After an error the same model answers, on the same backend."""
        peer.troubles.refuse(self.prompt_path, 503, self.quoting("busy"), times=1)
        with pytest.raises(ProviderError):
            await read(asking.generate(_REQUEST))
        assert (await read(asking.generate(_REQUEST))).text

    @pytest.mark.parametrize("pieces", [0, 3])
    @pytest.mark.parametrize("how", ["breaks_after", "fails_after"])
    async def test_an_answer_that_breaks_off_is_no_answer(
        self, peer: Peer, asking: Runner, how: str, pieces: int
    ) -> None:
        """A dropped connection and an error in mid-stream are errors, `retryable` only when nothing had come."""
        setattr(peer.troubles, how, pieces)
        came: list[object] = []

        async def reading() -> None:
            async for item in asking.generate(_REQUEST):
                came.append(item)

        with pytest.raises(ProviderError) as caught:
            await reading()
        assert all(isinstance(each, Piece) for each in came)
        assert bool(came) == bool(pieces)
        assert caught.value.retryable == (not pieces)
        if how == "fails_after":
            assert "out of memory" in caught.value.message

    async def test_an_answer_without_its_end_is_no_answer(self, peer: Peer, asking: Runner) -> None:
        """A stream that ends in good order, but before the answer does, is an error."""
        peer.troubles.ends_early = True
        with pytest.raises(ProviderError, match="broke off"):
            await read(asking.generate(_REQUEST))

    async def test_a_silent_server_is_left_when_the_reader_is_cancelled(
        self, peer: Peer, asking: Runner
    ) -> None:
        """A limit of time around the reader ends the wait, and the server is told by the end of the connection."""
        peer.troubles.is_silent = True
        reading = asyncio.ensure_future(read(asking.generate(_REQUEST)))
        await peer.until(lambda its: its.under_way == 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reading, 0.1)
        await peer.until(lambda its: its.under_way == 0)

    @pytest.mark.parametrize("how", ["reader", "runner"])
    async def test_the_server_stops_when_nobody_reads(self, peer: Peer, asking: Runner, how: str) -> None:
        """Leaving an answer, or closing its model, makes the server stop making it."""
        peer.troubles.is_endless = True
        answering = asking.generate(_REQUEST)
        for _ in range(3):
            await anext(answering)
        await peer.until(lambda its: its.under_way == 1)
        await (answering.aclose() if how == "reader" else asking.close())
        await peer.until(lambda its: its.under_way == 0)
        with contextlib.suppress(XprimError):
            await answering.aclose()

    async def test_a_server_that_is_not_there(self, available: str) -> None:
        """A refused connection names the address and may be tried again; recommendations are empty."""
        with nobody() as url:
            backend = self.make(self.context(url))
            with pytest.raises(ProviderError) as caught:
                await backend.check_model_availability([available])
            assert url in caught.value.message
            assert caught.value.retryable
            assert await backend.get_recommended_models() == []
            await backend.aclose()

    async def test_offline_means_this_machine_alone(self, peer: Peer, available: str) -> None:
        """Offline mode opens no socket to elsewhere, and still talks to a server on this machine."""
        away = self.make(self.context("http://models.example.org", keys={self.name: KEY}, offline=True))
        with pytest.raises(OfflineError):
            await away.check_model_availability([available])
        with pytest.raises(OfflineError):
            await away.load(available, LoadOptions(), lambda *_: None)
        assert await away.get_recommended_models() == []
        await away.aclose()
        here = self.make(self.context(peer.url, offline=True))
        assert await here.check_model_availability([available]) == []
        await here.aclose()

    async def test_proxies_are_not_asked_for_this_machine(
        self, peer: Peer, available: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A proxy of the environment is passed by for loopback."""
        with nobody() as url:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, url)
            backend = self.make(self.context(peer.url))
            assert await backend.check_model_availability([available]) == []
            await backend.aclose()

    async def test_what_is_no_api_is_said_to_be_none(self, peer: Peer, troubled: Backend) -> None:
        """A page where the list of models should be is an error that points at the address."""
        peer.troubles.refuse(self.list_path, 200, "<html>Welcome!</html>", {"content-type": "text/html"})
        with pytest.raises(ProviderError) as caught:
            await troubled.check_model_availability(["any"])
        assert peer.url in f"{caught.value.message} {caught.value.subject}"

    async def test_no_redirect_is_followed(self, peer: Peer, troubled: Backend) -> None:
        """A redirect is an error: the key would go along."""
        peer.troubles.refuse(self.list_path, 307, "", {"location": f"{peer.url}/elsewhere"})
        with pytest.raises(ProviderError, match="307"):
            await troubled.check_model_availability(["any"])
        assert not peer.of("/elsewhere")

    async def test_a_prompt_or_messages_must_be_there(self, asking: Runner) -> None:
        """A request without either is refused before anything is sent."""
        with pytest.raises(XprimError, match="prompt"):
            await read(asking.generate(GenerateRequest()))

    async def test_the_key_is_sent_and_never_seen(
        self,
        peer: Peer,
        troubled: Backend,
        asking: Runner,
        available: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """No repr, error, traceback or log line holds the key, also when the server quotes it."""
        caplog.set_level(logging.DEBUG)
        await read(asking.generate(_REQUEST))
        assert any(KEY in value for each in peer.asked for value in each.headers.values())
        seen = [repr(troubled), repr(asking), repr(self.context(peer.url, keys={self.name: KEY}))]
        seen += [repr(vars(each)) for each in (troubled, asking)]
        for status in (400, 401, 403, 404, 429, 500):
            peer.troubles.refusals.clear()
            peer.troubles.refuse(self.prompt_path, status, self.quoting(f"model? key {KEY}!"))
            seen += await self._failing(asking)
        peer.troubles.refusals.clear()
        peer.troubles.refuse(self.prompt_path, 500, f"<p>Bearer {KEY}</p>")
        seen += await self._failing(asking)
        peer.troubles.refusals.clear()
        peer.error = lambda message: type(peer).error(peer, f"{message} {KEY}")  # type: ignore[method-assign]  # this peer's own
        peer.troubles.fails_after = 1
        seen += await self._failing(asking)
        with nobody() as url:
            lost = self.make(self.context(url, keys={self.name: KEY}))
            with pytest.raises(ProviderError) as caught:
                await lost.check_model_availability([available])
            seen += _shown(caught.value)
            await lost.aclose()
        assert caplog.records
        assert not [each for each in [*seen, caplog.text] if KEY in each]

    async def _failing(self, runner: Runner) -> list[str]:
        with pytest.raises(XprimError) as caught:
            await read(runner.generate(_REQUEST))
        return _shown(caught.value)


def _shown(error: XprimError) -> list[str]:
    """Everything of an error that a person may see, its chain included."""
    return [
        str(error),
        repr(error),
        str(error.to_dict()),
        "".join(traceback.format_exception(error)),
        *("".join(map(str, each.args)) for each in (error.__cause__,) if each is not None),
    ]
