"""What somebody asks is checked before anything is started."""

from __future__ import annotations

import math

import pytest

from xprim_nb.errors import ConfigError
from xprim_nb.scheduling.asking import Asking, build_request, check_priority, parse_loras
from xprim_nb.workers.values import GenerateRequest, Message

_PLAIN = {"max_tokens": 8, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "seed": None, "stop": ()}


def _built(prompt: object = "Hello", messages: object = None, **changed: object) -> GenerateRequest:
    return build_request(prompt, messages, **{**_PLAIN, **changed})  # type: ignore[arg-type]  # what users type


def test_a_prompt_becomes_a_request() -> None:
    """What is given arrives, and one stop text is as good as several."""
    request = _built("Hello", temperature=0.5, seed=7, stop="END")
    assert request.prompt == "Hello"
    assert (request.sampling.temperature, request.sampling.seed, request.sampling.stop) == (0.5, 7, ("END",))


def test_messages_come_as_mappings_or_values() -> None:
    """A list of mappings, as every chat API takes it, and our own values say the same."""
    mapping = _built(None, [{"role": "user", "content": "Hello"}])
    assert (
        mapping.messages == _built(None, [Message("user", "Hello")]).messages == (Message("user", "Hello"),)
    )


def test_a_seed_is_made_up_where_chance_plays() -> None:
    """Without a seed a warm answer gets a new one each time, and a cold one needs none."""
    assert _built(temperature=0.0).sampling.seed == 0
    assert len({_built(temperature=1.0).sampling.seed for _ in range(5)}) > 1


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"prompt": None}, "prompt"),
        ({"messages": [{"role": "user", "content": "x"}]}, "prompt"),
        ({"prompt": b"bytes"}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"stop": ("",)}, "stop"),
        ({"stop": (3,)}, "stop"),
        ({"prompt": None, "messages": [{"role": "wizard", "content": "x"}]}, "messages"),
        ({"prompt": None, "messages": [{"content": "x"}]}, "messages"),
        ({"prompt": None, "messages": ["x"]}, "messages"),
        ({"prompt": None, "messages": [{"role": "user", "content": 3}]}, "messages"),
    ],
)
def test_what_cannot_work_is_refused_by_name(wrong: dict[str, object], named: str) -> None:
    """Each argument that cannot work is named, before a model is looked for."""
    with pytest.raises(ConfigError) as refused:
        _built(**wrong)
    assert refused.value.subject == named


def test_priorities_have_names() -> None:
    """A priority that there is passes; another one is refused with the list."""
    assert check_priority("batch") == "batch"
    with pytest.raises(ConfigError, match="realtime"):
        check_priority("urgent")


@pytest.mark.parametrize(
    "wishes", ["a/b v1*x", ["a/b v1", "a/b v1"], ["*2"], [("a/b", math.nan)], [("a/b", None)]]
)
def test_layers_need_a_name_and_a_number(wishes: object) -> None:
    """A weight that is no number, a missing name and the same layer twice are refused."""
    with pytest.raises(ConfigError) as refused:
        parse_loras(wishes)  # type: ignore[arg-type]  # what users type
    assert refused.value.subject == "loras"


def test_layers_come_with_weights() -> None:
    """Text and pairs say the same."""
    assert parse_loras(["a/b v1", ("c/d v2", 0.5)]) == parse_loras("a/b v1, c/d v2*0.5")


def test_progress_counts_what_came() -> None:
    """The snapshot has the text so far; whoever streams hears each piece that is no empty one."""
    heard: list[str] = []
    asking = Asking("fake:m", heard.append)
    asking.add("Once ", 1)
    asking.add("", 1)
    asking.add("upon", 1)
    progress = asking.snapshot()
    assert (progress.phase, progress.text, progress.tokens) == ("answering", "Once upon", 3)
    assert heard == ["Once ", "upon"]


def test_progress_asks_where_it_stands() -> None:
    """While it waits, position and reason are asked for at the moment somebody looks."""
    asking = Asking("fake:m", where=lambda asked: (2, f"{asked.model} is loading", 0.25))
    progress = asking.snapshot()
    assert (progress.position, progress.reason, progress.fraction) == (2, "fake:m is loading", 0.25)
    assert "fake:m is loading" in str(progress)
