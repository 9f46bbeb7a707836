"""The whole flow over a real file and the real renderers: asked once, kept, found, and never in clear."""

from __future__ import annotations

import asyncio
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from xprim_nb.errors import GenerationFailedError, NotCachedError, PromptError
from xprim_nb.prompts.answers import Answer, Cost, Finish, Usage
from xprim_nb.prompts.asked import Asked, Passed
from xprim_nb.prompts.asking import Asker
from xprim_nb.prompts.caches import Caches
from xprim_nb.prompts.caches.codec import unpack
from xprim_nb.prompts.redaction import Redactor
from xprim_nb.prompts.resolve import ResolvedScaffold, resolve_scaffold
from xprim_nb.prompts.telemetry import Telemetry, analyze, record_of
from xprim_nb.prompts.values import ResolveInput

from .helpers import Answerer, question


async def test_what_was_answered_once_is_not_asked_again(asker: Asker) -> None:
    """The second time it comes from the cache, in one piece, and costs no call."""
    answerer, heard = Answerer(), list[str]()
    first = await asker.ask(question(), answerer)
    second = await asker.ask(question(), answerer, on_text=heard.append)
    assert (first.source, second.source, len(answerer.calls)) == ("generated", "cache", 1)
    assert second.answer == first.answer
    assert heard == ["answer 1"]
    assert (second.reason, second.hit, second.resolved) == (None, True, None)
    assert first.reason is not None
    assert (first.reason.kind, first.not_kept) == ("first", "")
    assert first.resolved is not None
    assert answerer.sent == [first.resolved.rendered]


async def test_fifty_equal_questions_are_one_call(asker: Asker, caches: Caches) -> None:
    """Whoever asks while it is being answered is answered too; only one pays."""
    gate = asyncio.Event()
    answerer = Answerer(gate=gate)
    tasks = [asyncio.create_task(asker.ask(question(), answerer)) for _ in range(50)]
    await answerer.asked.wait()
    gate.set()
    done = await asyncio.gather(*tasks)
    assert len(answerer.calls) == 1
    assert {each.answer.text for each in done} == {"answer 1"}
    assert sorted(each.source for each in done) == ["generated", *["joined"] * 49]
    assert (caches.stats().answers, caches.stats().sent) == (1, 1)


async def test_the_first_to_ask_may_leave(asker: Asker) -> None:
    """Cancelled, it takes nothing from the one who joined."""
    gate = asyncio.Event()
    answerer = Answerer(gate=gate)
    first = asyncio.create_task(asker.ask(question(), answerer))
    await answerer.asked.wait()
    second = asyncio.create_task(asker.ask(question(), answerer))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.set()
    assert (await second).answer.text == "answer 1"
    assert answerer.cancelled == 0


async def test_a_question_nobody_waits_for_is_cancelled(asker: Asker, caches: Caches) -> None:
    """Its answer is not kept, and the next miss says that it was cancelled."""
    answerer = Answerer(gate=asyncio.Event())
    task = asyncio.create_task(asker.ask(question(), answerer))
    await answerer.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert answerer.cancelled == 1
    again = await asker.ask(question(), Answerer())
    assert again.reason is not None
    assert (again.reason.kind, again.reason.detail) == ("not_kept", "cancelled")


async def test_a_failure_reaches_all_and_is_not_kept(asker: Asker) -> None:
    """Everybody who waited is told; the next to ask has it answered, and learns what happened before."""

    def fails(call: int) -> Answer:
        raise GenerationFailedError("the model tripped", subject="m")

    answerer = Answerer(fails)
    done = await asyncio.gather(*(asker.ask(question(), answerer) for _ in range(4)), return_exceptions=True)
    assert [type(each) for each in done] == [GenerationFailedError] * 4
    assert len(answerer.calls) == 1
    again = await asker.ask(question(), Answerer())
    assert again.source == "generated"
    assert again.reason is not None
    assert (again.reason.kind, again.reason.detail) == ("not_kept", "error")


@pytest.mark.parametrize("finish", ["length", "refusal", "error", "cancelled"])
async def test_an_answer_that_is_not_whole_is_given_and_not_kept(asker: Asker, finish: Finish) -> None:
    """The user gets it with the reason; the next to ask has it asked again."""
    answerer = Answerer(lambda call: Answer(f"half {call}", finish=finish))
    first = await asker.ask(question(), answerer)
    assert first.answer.text == "half 1"
    assert finish in first.not_kept
    second = await asker.ask(question(), answerer)
    assert second.answer.text == "half 2"
    assert second.reason is not None
    assert second.reason.kind == "not_kept"


async def test_a_call_of_a_tool_is_kept(asker: Asker) -> None:
    """It is as good an answer as any."""
    call = {"name": "look", "arguments": {"path": "a.py"}}
    answerer = Answerer(lambda _: Answer("", finish="tool_calls", tool_calls=(call,)))
    await asker.ask(question(), answerer)
    again = await asker.ask(question(), answerer)
    assert (again.hit, again.answer.tool_calls, len(answerer.calls)) == (True, (call,), 1)


async def test_refresh_asks_and_keeps(asker: Asker) -> None:
    """A new answer takes the place of the old one."""
    answerer = Answerer()
    await asker.ask(question(), answerer)
    fresh = await asker.ask(question(cache="refresh"), answerer)
    assert (fresh.source, fresh.answer.text) == ("generated", "answer 2")
    assert fresh.reason is not None
    assert fresh.reason.kind == "refresh"
    assert (await asker.ask(question(), answerer)).answer.text == "answer 2"


async def test_bypass_asks_and_keeps_nothing(asker: Asker, caches: Caches, folder: Path) -> None:
    """No answer, no prompt, no record of it; the old answer stays."""
    answerer = Answerer()
    passed = await asker.ask(question(cache="bypass"), answerer)
    assert passed.not_kept
    assert passed.reason is not None
    assert passed.reason.kind == "bypass"
    assert not (folder / "cache.sqlite").exists() or caches.stats().sent == 0
    await asker.ask(question(), answerer)
    await asker.ask(question(cache="bypass"), answerer)
    assert len(answerer.calls) == 3
    assert (await asker.ask(question(), answerer)).answer.text == "answer 2"
    assert caches.stats().sent == 1


async def test_bypass_joins_nobody(asker: Asker) -> None:
    """Each gets an answer of its own."""
    answerer = Answerer()
    done = await asyncio.gather(*(asker.ask(question(cache="bypass"), answerer) for _ in range(3)))
    assert sorted(each.answer.text for each in done) == ["answer 1", "answer 2", "answer 3"]


async def test_refresh_does_not_join_what_was_asked_before(asker: Asker) -> None:
    """It wants an answer from now on; two who want that share one, and so does who asks plainly after them."""
    gate = asyncio.Event()
    answerer = Answerer(gate=gate)
    modes: list[Any] = ["use", "refresh", "refresh", "use"]
    tasks = []
    for mode in modes:
        tasks.append(asyncio.create_task(asker.ask(question(cache=mode), answerer)))
        await asyncio.sleep(0)
        await answerer.asked.wait()
    gate.set()
    done = await asyncio.gather(*tasks)
    assert [each.source for each in done] == ["generated", "generated", "joined", "joined"]
    assert len(answerer.calls) == 2


async def test_only_never_asks(asker: Asker) -> None:
    """It finds, or says what differs from the nearest."""
    answerer = Answerer()
    with pytest.raises(NotCachedError, match="Nothing was asked"):
        await asker.ask(question(cache="only"), answerer)
    await asker.ask(question(), answerer)
    assert (await asker.ask(question(cache="only"), answerer)).hit
    with pytest.raises(NotCachedError) as caught:
        await asker.ask(question(cache="only", prompt="Write the tests."), answerer)
    assert "from byte 10 (line 1)" in caught.value.reason
    assert len(answerer.calls) == 1


async def test_five_samples_and_then_seven_are_seven_calls(asker: Asker) -> None:
    """What is there is not asked for: two more are computed, and each keeps its place."""
    answerer = Answerer()
    five = await asker.ask_samples(question(temperature=1.0), answerer, 5)
    assert sorted(call.sample_index for call in answerer.calls) == [0, 1, 2, 3, 4]
    assert len({each.answer.text for each in five}) == 5
    seven = await asker.ask_samples(question(temperature=1.0), answerer, 7)
    assert sorted(call.sample_index for call in answerer.calls[5:]) == [5, 6]
    assert [each.answer for each in seven[:5]] == [each.answer for each in five]
    assert [each.source for each in seven] == ["cache"] * 5 + ["generated"] * 2
    assert seven[5].reason is not None
    assert (seven[5].reason.kind, seven[5].reason.field) == ("setting", "sample_index")
    with pytest.raises(ValueError, match="0 samples"):
        await asker.ask_samples(question(), answerer, 0)


async def test_a_sample_that_fails_loses_no_other(asker: Asker) -> None:
    """The failure is told; the others are kept, and are not asked for again."""

    def third_fails(call: int) -> Answer:
        if call == 3:
            raise GenerationFailedError("no", subject="m")
        return Answer(f"answer {call}")

    answerer = Answerer(third_fails)
    with pytest.raises(GenerationFailedError):
        await asker.ask_samples(question(), answerer, 4)
    await asker.ask_samples(question(), answerer, 4)
    assert len(answerer.calls) == 5


async def test_costs_and_predictions_are_recorded(caches: Caches) -> None:
    """What was predicted stands beside what was reported; a hit tells what it saved, and costs nothing."""
    cost = Cost(Decimal("0.0125"), "billed", "2026-10-01", "table")

    def resolve(asked: ResolveInput) -> ResolvedScaffold:
        return resolve_scaffold(asked, count=len)  # a token for each letter: all prompts are long

    usage = Usage(1200, 30, 1000, 100)
    async with Asker(caches, resolve=resolve, price=lambda asked, used: cost) as asker:
        answerer = Answerer(lambda call: Answer("yes", usage=usage, latency_s=2.0, first_token_s=0.5))
        asked = question(scaffold_type="module")
        first = await asker.ask(asked, answerer, checkpoint="c1")
        hit = await asker.ask(asked, answerer)
        await asker.ask(question(prompt="Another."), answerer)
    assert (first.cost, first.saved, hit.cost, hit.saved) == (cost, None, None, cost)
    sent, later = caches.calls("openai", "gpt-5.6")
    assert first.resolved is not None
    block = first.resolved.segment_tokens[0]  # which is marked; the turn is not
    assert (sent.predicted_read_tokens, sent.predicted_write_tokens, sent.usage) == (0, block, usage)
    assert later.predicted_read_tokens == later.parts[0].tokens == block
    assert [each.texts for each in caches.history("openai", "gpt-5.6", with_texts=1)] == [
        (),
        tuple(each.text for each in resolve(question(prompt="Another.")).rendered.segments),
    ]
    assert (sent.cost, sent.cost_kind, sent.latency_s, sent.first_token_s) == ("0.0125", "billed", 2.0, 0.5)
    assert (sent.scaffold_type, sent.checkpoint, sent.request) == ("module", "c1", first.request)
    assert [part.kind for part in sent.parts] == ["block", "turn"]


async def test_a_cache_that_cannot_be_used_costs_no_answer(tmp_path: Path) -> None:
    """The folder is a file: the answer comes, and what is wrong is told twice over."""
    (tmp_path / "prompts").write_text("in the way")
    caches = Caches(tmp_path / "prompts")
    async with Asker(caches) as asker:
        asked = await asker.ask(question(), Answerer())
    assert asked.answer.text == "answer 1"
    assert asked.reason is not None
    assert asked.reason.kind == "unavailable"
    assert "cannot be opened" in asked.reason.sentence
    assert "cannot be opened" in asked.not_kept


async def test_an_answer_that_cannot_be_stored_is_given(asker: Asker) -> None:
    """What its provider hung on it is no JSON: the answer is the user's all the same."""
    asked = await asker.ask(question(), Answerer(lambda call: Answer("yes", extra={"odd": {1, 2}})))
    assert asked.answer.text == "yes"
    assert asked.not_kept.startswith("It cannot be stored")


_SECRET = "ghp_0123456789abcdefghijklmnopqrstuvwxyzAB"


def _everything(folder: Path) -> bytes:
    """All bytes of all files, and all values unpacked."""
    found = [each.read_bytes() for each in sorted(folder.iterdir())]
    connection = sqlite3.connect(folder / "cache.sqlite")
    for table in ("answers", "scaffolds", "texts", "sent", "damaged"):
        for (value,) in connection.execute(f"SELECT value FROM {table}"):
            found.append(repr(unpack(value)).encode())
    connection.close()
    return b"\n".join(found)


async def test_no_secret_reaches_the_disk_or_the_model(caches: Caches, folder: Path) -> None:
    """A key in every field, and in all that the model says: no byte of it is stored, and the user reads his answer."""
    asked = question(
        prompt=f"Use {_SECRET} to push.",
        blocks=[
            {"type": "style_guide", "content": f"{_SECRET} {'long ' * 300}", "name": f"n {_SECRET}"},
            {"type": "file_map", "files": {"a.env": f"TOKEN={_SECRET}", f"{_SECRET}.txt": "x"}},
            {"type": "requirements", "content": "x", "metadata": {"note": _SECRET}},
        ],
        context={"token": _SECRET, _SECRET: [_SECRET]},
        messages=[{"role": "user", "content": _SECRET}],
        tools=[{"name": "push", "description": _SECRET, "parameters": {"default": _SECRET}}],
        response_schema={"const": _SECRET},
        endpoint=f"http://u:{_SECRET}@localhost",
        stop=[_SECRET],
        parameters={"metadata": {"token": _SECRET}},
        cache_key=_SECRET,
        scaffold_type=_SECRET,
    )
    said = Answer(
        f"I used {_SECRET}.",
        finish="tool_calls",
        model=_SECRET,
        tool_calls=({"name": "push", "arguments": {"token": _SECRET, "in": [f"a {_SECRET}"]}},),
        extra={"echo": _SECRET, _SECRET: 1},
    )
    answerer = Answerer(lambda call: said)
    async with Asker(caches, redact=Redactor(b"key")) as asker:
        first = await asker.ask(asked, answerer, checkpoint=_SECRET)
        again = await asker.ask(asked, answerer)
        other = await asker.ask(asked.model_copy(update={"temperature": 1.0}), answerer)
        one_more = await asker.ask(asked.model_copy(update={"prompt": f"{_SECRET}?"}), answerer)
    assert first.answer == said
    assert again.hit
    assert _SECRET not in repr((again.answer, again.reason))
    assert _SECRET not in repr((other.reason, one_more.reason))
    assert _SECRET not in repr(answerer.sent)
    assert _SECRET not in repr([call.model_copy(update={"scaffold_type": ""}) for call in answerer.calls])
    stored = _everything(folder)
    assert b"redacted:github" in stored
    assert b"Write the module" not in stored
    assert _SECRET.encode() not in stored


@pytest.mark.parametrize("how", ["answered", "failed", "first left", "all left"])
async def test_a_call_that_many_joined_is_one_record_of_a_call(
    caches: Caches, folder: Path, how: str
) -> None:
    """However it ends: five questions are five operations, one of them the call, with its tokens and its cost."""
    gate = asyncio.Event()

    def say(_: int) -> Answer:
        if how == "failed":
            raise GenerationFailedError("the model tripped", subject="m")
        return Answer("yes", usage=Usage(120, 30))

    answerer = Answerer(say, gate)
    price = Cost(Decimal("0.25"), "billed")
    with Telemetry(folder) as telemetry:
        async with Asker(caches, price=lambda *_: price, on_call=telemetry.observer()) as asker:
            tasks = [asyncio.create_task(asker.ask(question(), answerer)) for _ in range(5)]
            await answerer.asked.wait()
            for task in tasks[: {"first left": 1, "all left": 5}.get(how, 0)]:
                task.cancel()
            await asyncio.sleep(0)
            gate.set()
            done = await asyncio.gather(*tasks, return_exceptions=True)
        records = telemetry.records()
    total = analyze(records).total
    failed = how in ("failed", "all left")
    assert (total.operations, total.calls, total.failed) == (5, 1, int(failed))
    assert (total.billed, total.input_tokens) == ((Decimal(0), 0) if failed else (Decimal("0.25"), 120))
    assert len(answerer.calls) == caches.stats().sent == 1
    paid = [each.cost for each in done if isinstance(each, Asked) and each.cost is not None]
    assert paid == ([] if failed else [price])


async def test_what_could_not_be_rendered_was_not_sent(caches: Caches) -> None:
    """A prompt that fails before anybody is asked is no call, and none of the failed ones."""
    passed: list[Passed] = []

    def refuse(asked: Any) -> Any:
        raise PromptError("it cannot be rendered", subject="prompt")

    async with Asker(caches, resolve=refuse, on_call=passed.append) as asker:
        with pytest.raises(PromptError):
            await asker.ask(question(), Answerer())
    record = record_of(passed[0])
    assert (record.is_sent, record.error, record.in_response.reason) == (False, "PromptError", "not sent")
