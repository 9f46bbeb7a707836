"""Prompts from end to end: resolved, answered by the embedded demo model through the engine, and found again.

Each answer ends at a full stop: one that is cut at its limit is never kept.
"""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from xprim_nb import Config, Toolkit, connect
from xprim_nb.config.capabilities import AICapabilities
from xprim_nb.errors import ConfigError, NotCachedError
from xprim_nb.prompts.asked import Asked
from xprim_nb.scheduling.values import Reply

pytestmark = pytest.mark.timeout(300)  # a worker starts in half a second; on a loaded machine in many

_MODEL = "demo/tiny-llama v2"
_KEY = f"numpy:{_MODEL}"
_ASKED: dict[str, Any] = {"provider": "local", "model": _MODEL, "stop": ["."], "max_tokens": 200}
_TURN = "Once upon a time"
_API_KEY = "xk-9f8e7d6c5b4a-of-a-server"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all of this module's toolkits have their models and prompts: the model is installed once."""
    return tmp_path_factory.mktemp("prompts") / "models"


@pytest.fixture(scope="module")
def kit(base: Path) -> Iterator[Toolkit]:
    """A toolkit with the demo registry; its model stays awake."""
    with connect(_config(base)) as kit:
        yield kit


@pytest.fixture(autouse=True)
def cleared(kit: Toolkit) -> None:
    """No test finds what another has asked."""
    kit.prompts.clear().result()


def _config(base: Path) -> Config:
    return Config(data_dir=base, ai=AICapabilities(keys={"lab": _API_KEY}))


def _ask(kit: Toolkit, turn: str = _TURN, **changes: Any) -> Asked:
    return kit.prompts.ask(turn, **{**_ASKED, **changes}).result(60)


def _served(kit: Toolkit) -> int:
    """How many answers the model has given."""
    return sum(each.served for each in kit.ai.ps().result() if each.key == _KEY and each.is_mine)


def test_what_is_resolved_is_what_is_sent(kit: Toolkit) -> None:
    """The tokens that are counted before are those that the model reads, to the last one."""
    answered = _ask(kit)
    resolved = kit.prompts.resolve(_TURN, **_ASKED).result()
    assert resolved.token_count == answered.answer.usage.input_tokens
    assert resolved.token_bound == 0
    assert resolved.request_hash == answered.request
    assert (resolved.cache_hit, resolved.estimated_cost) == (True, None)
    assert resolved.rendered.body["messages"] == [{"role": "user", "content": _TURN}]


def test_the_second_call_answers_from_the_cache_and_starts_nothing(kit: Toolkit, base: Path) -> None:
    """The first answer is generated, and says that nothing was asked before; the next is the same, with no engine at all."""
    pieces: list[str] = []
    first = _ask(kit, stream=pieces.append)
    assert (first.source, first.answer.finish, first.not_kept) == ("generated", "stop", "")
    assert first.reason is not None
    assert first.reason.kind == "first"
    assert "".join(pieces) == first.answer.text
    assert len(pieces) > 1
    with connect(_config(base)) as fresh:
        again = _ask(fresh, stream=lambda text: pieces.append(f"again:{text}"))
        assert fresh.engine is None
    assert (again.source, again.reason, again.answer.text) == ("cache", None, first.answer.text)
    assert pieces[-1] == f"again:{first.answer.text}"


def test_the_miss_says_what_differs(kit: Toolkit) -> None:
    """Of two turns that differ in a byte, the second is no hit, and the reason names that byte."""
    _ask(kit)
    other = _ask(kit, "Once upon a tide")
    assert other.source == "generated"
    assert other.reason is not None
    assert (other.reason.part, other.reason.byte) == ("turn", 14)


def test_each_mode_does_as_it_says(kit: Toolkit) -> None:
    """`bypass` keeps nothing, `refresh` asks again and keeps, `only` never asks and says why there is no answer."""
    bypassed = _ask(kit, cache="bypass")
    assert bypassed.not_kept
    with pytest.raises(NotCachedError) as missed:
        _ask(kit, cache="only")
    assert missed.value.reason
    before = _served(kit)
    assert _ask(kit, cache="refresh").source == "generated"
    assert _ask(kit, cache="refresh").source == "generated"
    assert _served(kit) == before + 2
    assert _ask(kit, cache="only").source == "cache"
    assert _ask(kit, cache="bypass").source == "generated"
    assert _served(kit) == before + 3


def test_fifty_who_ask_the_same_are_one_generation(kit: Toolkit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal requests in flight are one: one is generated, the others have joined it, and all hear the same."""
    _ask(kit, "Wake up.")
    before = _served(kit)
    heard, all_there = [threading.Event() for _ in range(50)], threading.Event()
    generate = kit.engine.generate  # type: ignore[union-attr]  # it has answered

    async def held(*model: str, **options: Any) -> Reply:
        reply = await generate(*model, **options)
        assert await asyncio.to_thread(all_there.wait, 60)
        return reply

    with monkeypatch.context() as patch:
        patch.setattr(kit.engine, "generate", held)
        handles = [kit.prompts.ask(_TURN, stream=_setting(each), **_ASKED) for each in heard]
        for each in heard:  # whoever joins is told at once what was said before
            assert each.wait(60)
        all_there.set()
        answers = [handle.result(60) for handle in handles]
    assert _served(kit) == before + 1
    assert sorted(answer.source for answer in answers) == ["generated", *["joined"] * 49]
    assert len({answer.answer.text for answer in answers}) == 1


def _setting(event: threading.Event) -> Callable[[str], None]:
    return lambda _: event.set()


def test_samples_are_kept_by_their_index(kit: Toolkit) -> None:
    """Of seven samples, of which five are kept, two are generated; each is another text."""
    warm = {**_ASKED, "temperature": 1.0, "seed": 7, "stop": [" "], "max_tokens": 60}
    five = kit.prompts.ask_samples(_TURN, samples=5, **warm).result(60)
    assert {each.source for each in five} == {"generated"}
    assert all(each.answer.finish == "stop" for each in five)
    before = _served(kit)
    seven = kit.prompts.ask_samples(_TURN, samples=7, **warm).result(60)
    assert [each.source for each in seven] == ["cache"] * 5 + ["generated"] * 2
    assert _served(kit) == before + 2
    assert [each.answer.text for each in seven[:5]] == [each.answer.text for each in five]
    assert len({each.answer.text for each in seven}) > 1


def test_a_truncated_answer_is_not_kept(kit: Toolkit) -> None:
    """What was cut at its limit is told so, and asked again the next time."""
    cut = _ask(kit, max_tokens=3)
    assert (cut.answer.finish, cut.source) == ("length", "generated")
    assert "length" in cut.not_kept
    again = _ask(kit, max_tokens=3)
    assert again.source == "generated"
    assert again.reason is not None
    assert again.reason.kind == "not_kept"


def test_a_secret_is_found_nowhere(kit: Toolkit, base: Path) -> None:
    """Keys of known shapes and those of the settings are in no file of the prompts, whatever they were said in."""
    secret = "ghp_0123456789abcdefghijklmnopqrstuvwxyz"
    said = f"Push with {secret}, ask with {_API_KEY}"
    fields = {"context": {"token": secret}, "blocks": [{"type": "requirements", "content": said}]}
    answered = _ask(kit, said, **fields)
    assert "[redacted:github:" in answered.asked.prompt
    kit.prompts.resolve(said, **{**_ASKED, **fields}).result()
    with pytest.raises(NotCachedError):
        _ask(kit, f"{said}!", cache="only", **fields)
    kit.prompts.rotate().result()
    files = [path for path in (base / "prompts").rglob("*") if path.is_file()]
    assert {"cache.sqlite", "redaction.key"} <= {path.name for path in files}
    for path in files:
        data = path.read_bytes()
        assert secret.encode() not in data, path
        assert _API_KEY.encode() not in data, path


@pytest.mark.skipif(os.name == "nt", reason="permissions are another thing there")
def test_the_files_are_their_users_alone(kit: Toolkit, base: Path) -> None:
    """The folder is 0700, the key and the caches are 0600, and the key is the same after a restart."""
    _ask(kit)
    folder = base / "prompts"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("redaction.key", "cache.sqlite"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    key = (folder / "redaction.key").read_bytes()
    with connect(_config(base)) as fresh:
        fresh.prompts.status().result()
    assert len(key) == 32
    assert (folder / "redaction.key").read_bytes() == key


def test_who_is_not_named_is_asked_for(kit: Toolkit) -> None:
    """Without a provider or a model nothing is asked, and the error says what to name."""
    with pytest.raises(ConfigError, match="No model is named"):
        kit.prompts.ask(_TURN, provider="local").result()
    with pytest.raises(ConfigError, match="temperature"):
        kit.prompts.ask(_TURN, **{**_ASKED, "temperature": 9}).result()
    with pytest.raises(ConfigError, match="no provider"):
        kit.prompts.ask(_TURN, provider="nobody", model="x").result()
