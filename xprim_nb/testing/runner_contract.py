"""What every `Runner` promises; `backend_contract` brings it to each backend.

Source: `xprim_nb.workers.contract.Runner`; spec 4 §Workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from xprim_nb.errors import EngineError, UnsupportedModelError
from xprim_nb.workers.contract import Backend, Runner
from xprim_nb.workers.values import (
    Ended,
    GenerateRequest,
    LoadOptions,
    LoraChoice,
    Message,
    Piece,
    Sampling,
    WorkerStats,
)

__all__ = ["Answer", "Given", "RunnerContract", "read"]

# What an answer needs at most; only a broken backend is waited for in full.
_PATIENCE_S = 60.0
# "When `aclose` returns, the model serves the next request": two seconds, and what a busy machine adds.
_LETTING_GO_S = 5.0
# "Within a second", and what a busy machine adds.
_STATS_S = 3.0
# Long enough not to be over when a test interferes, short enough for the smallest demo model's context.
_LONG = 400


class Answer(NamedTuple):
    """A whole answer."""

    text: str
    pieces: list[Piece]
    ended: Ended


async def read(answering: AsyncGenerator[Piece | Ended, None]) -> Answer:
    """The whole answer, which must be pieces, and exactly one `Ended` as the last."""
    items: list[Piece | Ended] = []
    async with asyncio.timeout(_PATIENCE_S), contextlib.aclosing(answering):
        async for item in answering:
            items.append(item)
    assert items, "an answer has an end"
    *pieces, ended = items
    assert isinstance(ended, Ended)
    assert not any(isinstance(each, Ended) for each in pieces)
    whole = [each for each in pieces if isinstance(each, Piece)]
    return Answer("".join(each.text for each in whole), whole, ended)


class Given:
    """What a subclass gives; the first three have no default."""

    @pytest.fixture
    async def backend(self) -> AsyncIterator[Backend]:
        """The backend under test, closed by the fixture."""
        raise NotImplementedError
        yield  # noqa: PT022  # it says what a subclass's fixture is

    @pytest.fixture
    def available(self) -> str:
        """A model that is there, with a chat template, and free to answer at length."""
        raise NotImplementedError

    @pytest.fixture
    def missing(self) -> str:
        """A model that is nowhere."""
        return "nobody/has-this v1"

    @pytest.fixture
    def installable(self) -> str | None:
        """A model that `install_model` brings, and that is not there yet; None where nothing can be installed."""
        return None

    @pytest.fixture
    def options(self) -> LoadOptions:
        """How models are loaded."""
        return LoadOptions(context_tokens=512)

    @pytest.fixture
    def prompt(self) -> str:
        """A prompt whose greedy answer goes on for hundreds of tokens, and is not the same letter over and over."""
        return "Once upon a time"

    @pytest.fixture
    async def fresh(self, backend: Backend, available: str, options: LoadOptions) -> AsyncIterator[Runner]:
        """A loaded model that the test may close."""
        runner = await backend.load(available, options, lambda *_: None)
        try:
            yield runner
        finally:
            await runner.close()

    @pytest.fixture
    def runner(self, fresh: Runner) -> Runner:
        """A loaded model that the test leaves loaded."""
        return fresh


class _Answering(Given):
    async def test_an_answer_is_pieces_and_one_end(self, runner: Runner, prompt: str) -> None:
        """Text comes in several pieces, then one `Ended`; the greedy answer is the same each time."""
        request = GenerateRequest(prompt, sampling=Sampling(max_tokens=24))
        first, second = await read(runner.generate(request)), await read(runner.generate(request))
        assert len(first.pieces) > 1
        assert first.text
        assert first.text == second.text
        assert first.ended.reason in ("stop", "length")
        assert first.ended.tokens >= sum(each.tokens for each in first.pieces) > 0

    async def test_messages_are_answered(self, runner: Runner) -> None:
        """A conversation is answered, with a system message or without."""
        said = (Message("user", "Hello."), Message("assistant", "Hello!"), Message("user", "Go on."))
        for messages in (said, (Message("system", "Be brief."), *said)):
            answer = await read(runner.generate(GenerateRequest(messages=messages, sampling=Sampling(8))))
            assert answer.pieces

    @pytest.mark.parametrize("most", [1, 7])
    async def test_max_tokens_is_kept(self, runner: Runner, prompt: str, most: int) -> None:
        """An answer has no more tokens than asked for, and says that this is why it ended."""
        answer = await read(runner.generate(GenerateRequest(prompt, sampling=Sampling(max_tokens=most))))
        assert answer.ended.reason == "length"
        assert answer.ended.tokens == most
        assert sum(each.tokens for each in answer.pieces) <= most

    async def test_the_same_seed_makes_the_same_text(
        self, backend: Backend, runner: Runner, prompt: str
    ) -> None:
        """With a temperature, a seed names one text, and several seeds name several."""
        if not backend.capabilities.honours_seed:
            return
        texts = {
            seed: [await self._sampled(runner, prompt, seed) for _ in range(2)] for seed in (1, 2, 3, 2**31)
        }
        assert all(first == second for first, second in texts.values())
        assert len({first for first, _ in texts.values()}) > 1

    async def test_an_answer_ends_before_a_stop_text(self, runner: Runner, prompt: str) -> None:
        """Nothing of a stop text comes out, nor of what would have followed; several are kept at once."""
        whole = (await read(runner.generate(GenerateRequest(prompt, sampling=Sampling(48))))).text
        middle = len(whole) // 2
        stop = whole[middle : middle + 3]
        assert len(stop) == 3
        kept = Sampling(48, stop=("never\n\nnever", stop, f"{stop} longer"))
        answer = await read(runner.generate(GenerateRequest(prompt, sampling=kept)))
        assert answer.text == whole[: whole.index(stop)]
        assert answer.ended.reason == "stop"

    async def test_a_reader_may_leave_early(self, runner: Runner, prompt: str) -> None:
        """When `aclose` in mid-answer returns, the model serves the next request."""
        short = GenerateRequest(prompt, sampling=Sampling(12))
        whole = await read(runner.generate(short))
        for _ in range(3):
            answering = runner.generate(GenerateRequest(prompt, sampling=Sampling(_LONG)))
            assert isinstance(await anext(answering), Piece)
            async with asyncio.timeout(_LETTING_GO_S):
                await answering.aclose()
            assert (await read(runner.generate(short))).text == whole.text

    async def test_a_cancelled_reader_leaves_the_model_serving(self, runner: Runner, prompt: str) -> None:
        """Cancelling whoever reads ends the answer, before its first piece and after; the next is served."""
        short = GenerateRequest(prompt, sampling=Sampling(12))
        whole = await read(runner.generate(short))
        for pieces in (0, 2):
            begun = asyncio.Event()

            async def reading(pieces: int = pieces, begun: asyncio.Event = begun) -> None:
                if not pieces:
                    begun.set()
                async with contextlib.aclosing(
                    runner.generate(GenerateRequest(prompt, sampling=Sampling(_LONG)))
                ) as answering:
                    async for _ in answering:
                        pieces -= 1
                        if not pieces:
                            begun.set()

            reader = asyncio.ensure_future(reading())
            async with asyncio.timeout(_PATIENCE_S):
                await begun.wait()
            reader.cancel()
            with pytest.raises(asyncio.CancelledError):
                async with asyncio.timeout(_LETTING_GO_S):
                    await reader
            assert (await read(runner.generate(short))).text == whole.text

    async def test_as_many_answers_at_once_as_it_has_slots(
        self, backend: Backend, runner: Runner, prompt: str
    ) -> None:
        """Answers that are made at the same time do not mix."""
        request = GenerateRequest(prompt, sampling=Sampling(16))
        whole = await read(runner.generate(request))
        together = await asyncio.gather(
            *(read(runner.generate(request)) for _ in range(backend.capabilities.slots))
        )
        assert [each.text for each in together] == [whole.text] * backend.capabilities.slots

    async def test_it_accounts_for_itself_while_it_answers(self, runner: Runner, prompt: str) -> None:
        """`stats` comes within a second, also in the middle of an answer, and steps only grow."""
        async with asyncio.timeout(_STATS_S):
            before = await runner.stats()
        async with contextlib.aclosing(
            runner.generate(GenerateRequest(prompt, sampling=Sampling(_LONG)))
        ) as answering:
            await anext(answering)
            async with asyncio.timeout(_STATS_S):
                during = await runner.stats()
        assert isinstance(during, WorkerStats)
        assert during.pid == (runner.pid or 0)
        assert during.steps > before.steps
        assert all(math.isfinite(each.cpu_s) and each.cpu_s >= 0 for each in (before, during))

    async def test_layers_that_it_cannot_have_are_refused(
        self, backend: Backend, runner: Runner, prompt: str, tmp_path: Path
    ) -> None:
        """A LoRA layer is never left out in silence, and the model serves on."""
        if backend.capabilities.lora == "none":
            asked = GenerateRequest(prompt, loras=(LoraChoice("no/layer v1", tmp_path),))
            with pytest.raises(EngineError, match="no/layer v1"):
                await read(runner.generate(asked))
        assert (await read(runner.generate(GenerateRequest(prompt, sampling=Sampling(4))))).pieces

    async def test_it_parks_or_says_that_it_cannot(
        self, backend: Backend, runner: Runner, prompt: str
    ) -> None:
        """A parked model wakes and answers as before; one that cannot park says so, and serves on."""
        request = GenerateRequest(prompt, sampling=Sampling(8))
        whole = await read(runner.generate(request))
        if backend.capabilities.can_park:
            residue = await runner.park()
            assert residue.device_bytes <= runner.measured.device_bytes
            await runner.wake()
        else:
            with pytest.raises(UnsupportedModelError):
                await runner.park()
        assert (await read(runner.generate(request))).text == whole.text

    async def _sampled(self, runner: Runner, prompt: str, seed: int) -> str:
        sampling = Sampling(48, temperature=1.0, seed=seed)
        return (await read(runner.generate(GenerateRequest(prompt, sampling=sampling)))).text


class _Ending(Given):
    @pytest.mark.parametrize("reads_on", [True, False])
    async def test_closing_ends_what_is_being_answered(
        self, fresh: Runner, prompt: str, reads_on: bool
    ) -> None:
        """An answer whose model is closed is cancelled, or ends with one of our errors; it never seems whole."""
        answering = fresh.generate(GenerateRequest(prompt, sampling=Sampling(_LONG)))
        assert isinstance(await anext(answering), Piece)
        reader = asyncio.ensure_future(read(answering)) if reads_on else None
        await asyncio.sleep(0)  # the reader begins to wait
        async with asyncio.timeout(_PATIENCE_S):
            await fresh.close()
        try:
            answer = await (reader or read(answering))
        except EngineError:
            pass
        else:
            assert answer.ended.reason == "cancelled"
        with pytest.raises(EngineError):
            await read(fresh.generate(GenerateRequest(prompt, sampling=Sampling(4))))

    async def test_closing_twice_is_closing_once(self, fresh: Runner) -> None:
        """`close` may be called again, also while it closes; then it has ended, without a report."""
        async with asyncio.timeout(_PATIENCE_S):
            await asyncio.gather(fresh.close(), fresh.close())
            await fresh.close()
        assert fresh.ended.done()
        assert await fresh.ended is None

    async def test_who_waits_for_the_end_does_not_bring_it(self, fresh: Runner) -> None:
        """Whoever waits for `ended` can be cancelled; the next still learns of the end."""

        async def waiting() -> object:
            return await fresh.ended

        first, second = asyncio.ensure_future(waiting()), asyncio.ensure_future(waiting())
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert not fresh.ended.done()
        async with asyncio.timeout(_PATIENCE_S):
            await fresh.close()
            assert await second is None

    async def test_two_runners_of_one_model_do_not_meet(
        self, backend: Backend, fresh: Runner, available: str, options: LoadOptions, prompt: str
    ) -> None:
        """A model may be loaded twice; closing one leaves the other serving."""
        other = await backend.load(available, options, lambda *_: None)
        request = GenerateRequest(prompt, sampling=Sampling(8))
        whole = await read(other.generate(request))
        await other.close()
        assert (await read(fresh.generate(request))).text == whole.text


class RunnerContract(_Answering, _Ending):
    """See `backend_contract.BackendContract`, which has all of it."""
