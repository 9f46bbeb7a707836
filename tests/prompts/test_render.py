"""Bodies as providers get them: pinned to the byte under each renderer's version, in the shape that the SDKs know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from anthropic.types import TextBlockParam, ToolParam
from anthropic.types.message_create_params import MessageCreateParamsBase
from openai.types.chat import ChatCompletionContentPartTextParam
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from tests.prompts.examples import CASES, MODELS, SCHEMA, asked, case
from xprim_nb.errors import ConfigError
from xprim_nb.prompts.ordering import ordered_parts
from xprim_nb.prompts.providers import provider_named
from xprim_nb.prompts.render.contract import compact_json
from xprim_nb.prompts.render.openai import is_strict
from xprim_nb.prompts.rendered import Rendered
from xprim_nb.prompts.values import ResolveInput

_EACH = [(provider, model) for provider, models in MODELS.items() for model in models]


def _render(wanted: ResolveInput) -> Rendered:
    return provider_named(wanted.provider).renderer.render(wanted, ordered_parts(wanted))


def _notes(wanted: ResolveInput) -> str:
    return " ".join(provider_named(wanted.provider).renderer.notes(wanted))


def written(provider: str, model: str) -> str:
    """All cases of one model, as a golden file holds them."""
    cases = {
        name: {
            "digest": (made := _render(case(name, provider, model))).digest,
            "body": compact_json(made.body),
            "segments": [[each.kind, each.label, each.breakpoint, list(each.path)] for each in made.segments],
        }
        for name in CASES
    }
    return json.dumps(cases, ensure_ascii=False, indent=1) + "\n"


@pytest.mark.parametrize(("provider", "model"), _EACH)
def test_no_byte_changes_without_the_version(provider: str, model: str) -> None:
    """What a renderer's version once made, it makes for ever; another byte needs another version, and a new file."""
    renderer = provider_named(provider).renderer.id.replace("/", "-")
    path = Path(__file__).parent / "golden" / f"{renderer}.{model}.json"
    assert path.exists(), f"no golden file for {renderer}: python -m tests.prompts.write_golden"
    assert written(provider, model) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("provider", "model"), _EACH)
@pytest.mark.parametrize("name", CASES)
def test_each_segment_lies_where_it_says(provider: str, model: str, name: str) -> None:
    """Its path leads to its text: at the place itself, or as one piece of a text of several."""
    made = _render(case(name, provider, model))
    for segment in made.segments:
        place: Any = made.body
        for step in segment.path:
            place = place[step]
        if segment.kind in {"tools", "schema"}:
            continue
        assert segment.text in (place if isinstance(place, str) else place["text"])
        assert segment.breakpoint == (
            isinstance(place, Mapping) and bool({"cache_control", "prompt_cache_breakpoint"} & set(place))
        )


@pytest.mark.parametrize("provider", ["vllm", "sglang", "llama-cpp"])
def test_a_system_text_is_exactly_its_segments(provider: str) -> None:
    """Counted one by one they are the whole: nothing stands between them."""
    made = _render(case("talk", provider, "tiny"))
    pieces = [each.text for each in made.segments if each.path[:2] == ("messages", 0)]
    assert len(pieces) == 2
    assert "".join(pieces) == made.body["messages"][0]["content"]


@pytest.mark.parametrize(("provider", "model"), _EACH)
def test_equal_prefixes_stay_equal_when_the_turn_changes(provider: str, model: str) -> None:
    """Another turn leaves all hashes before it, another renderer or tenant none."""
    one = _render(case("talk", provider, model))
    two = _render(case("talk", provider, model).model_copy(update={"prompt": "Never mind."}))
    assert one.prefixes[:-1] == two.prefixes[:-1]
    assert one.prefixes[-1] != two.prefixes[-1]
    assert one.digest != two.digest


@pytest.mark.parametrize(("provider", "shares"), [("openai", False), ("vllm", False), ("anthropic", True)])
def test_a_key_keeps_prefixes_apart_where_the_provider_does(provider: str, shares: bool) -> None:
    """A salt or a routing key is part of a prefix, and one that is not sent is none."""
    model = MODELS[provider][0]
    one, two = (_render(asked(provider, model, cache_key=key)) for key in ("a", "b"))
    assert (one.prefixes == two.prefixes) is shares


def test_the_order_of_a_schema_is_sent_and_hashed() -> None:
    """A model that is to reason first and answer then does, and another order is another prompt."""
    other = {**SCHEMA, "properties": dict(reversed(SCHEMA["properties"].items()))}
    one, two = (_render(asked("openai", "gpt-5.6", response_schema=each)) for each in (SCHEMA, other))
    assert list(one.body["response_format"]["json_schema"]["schema"]["properties"]) == ["reason", "answer"]
    assert one.segments[0].hash != two.segments[0].hash
    assert one.digest != two.digest


@pytest.mark.parametrize("name", CASES)
def test_openai_knows_every_field(name: str) -> None:
    """Nothing is sent that the types of OpenAI's own SDK do not have."""
    body = _render(case(name, "openai", "gpt-5.6")).body
    assert set(body) <= set(get_type_hints(CompletionCreateParamsBase))
    for message in body["messages"]:
        for part in message["content"]:
            assert set(part) <= set(get_type_hints(ChatCompletionContentPartTextParam))


@pytest.mark.parametrize("name", CASES)
def test_anthropic_knows_every_field(name: str) -> None:
    """Nothing is sent that the types of Anthropic's own SDK do not have."""
    body = _render(case(name, "anthropic", "claude-opus-5")).body
    assert set(body) <= set(get_type_hints(MessageCreateParamsBase))
    for part in [*body.get("system", ()), *(each for said in body["messages"] for each in said["content"])]:
        assert set(part) <= set(get_type_hints(TextBlockParam))
    for tool in body.get("tools", ()):
        assert set(tool) <= set(get_type_hints(ToolParam))


def test_openai_marks_no_turn_without_history() -> None:
    """A prompt that is asked once writes what the next one shares, and not its own turn."""
    body = _render(case("whole", "openai", "gpt-5.6")).body
    assert body["prompt_cache_options"] == {"mode": "explicit"}
    assert "prompt_cache_breakpoint" not in body["messages"][-1]["content"][0]
    marks = [each.get("prompt_cache_breakpoint") for each in body["messages"][0]["content"]]
    # style guide, requirements, file map; the context changes too often
    assert marks == [{"mode": "explicit", "ttl": "12h"}] * 3 + [None]


def test_openai_keeps_its_own_breakpoint_in_a_conversation() -> None:
    """Its own stands at the newest message; ours stand before it, three at most, and at no assistant's."""
    made = _render(case("talk", "openai", "gpt-5.6"))
    assert "prompt_cache_options" not in made.body
    assert [each.label for each in made.segments if each.breakpoint] == ["requirements", "tool"]


def test_openai_is_told_nothing_before_gpt_5_6() -> None:
    """An older model refuses a field that it does not know."""
    text = compact_json(_render(case("whole", "openai", "gpt-4o")).body)
    assert "prompt_cache_breakpoint" not in text
    assert "prompt_cache_options" not in text
    assert '"prompt_cache_key":"team-a"' in text


def test_anthropic_takes_four_marks_the_longer_first() -> None:
    """Never a fifth, and none for an hour after one for five minutes."""
    wanted = asked(
        blocks=[{"type": "context", "content": str(each), "volatility": each * 10} for each in range(7)],
        messages=[{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
        tools=[{"name": "t"}],
        prefix_ttl="1h",
    )
    body = _render(wanted).body
    parts = [
        *body["tools"],
        *body["system"],
        *(each for said in body["messages"] for each in said["content"]),
    ]
    marks = [each["cache_control"].get("ttl", "5m") for each in parts if "cache_control" in each]
    assert marks == ["1h", "1h", "5m", "5m"]


def test_a_mark_of_the_caller_takes_one_of_four() -> None:
    """Anthropic's automatic caching, asked for by its own name, counts as one."""
    blocks = [{"type": "context", "content": str(each), "volatility": each * 10} for each in range(7)]
    body = _render(asked(blocks=blocks, parameters={"cache_control": {"type": "ephemeral"}})).body
    assert sum("cache_control" in each for each in body["system"]) == 3
    assert body["cache_control"] == {"type": "ephemeral"}


def test_no_mark_below_the_minimum() -> None:
    """What a model would not keep is not marked: 512 tokens for one, 4096 for another."""
    for model, marked in (("claude-opus-5", True), ("claude-haiku-4-5", False)):
        wanted = asked("anthropic", model, blocks=[{"type": "style_guide", "content": "x"}])
        made = provider_named("anthropic").renderer.render(wanted, ordered_parts(wanted), counts=[1000, 5])
        assert made.segments[0].breakpoint is marked


def test_a_caller_may_set_effort_beside_a_schema() -> None:
    """Anthropic has both in one field; neither is lost."""
    body = _render(asked(response_schema=SCHEMA, parameters={"output_config": {"effort": "low"}})).body
    assert body["output_config"]["effort"] == "low"
    assert body["output_config"]["format"]["schema"] == SCHEMA


@pytest.mark.parametrize("provider", MODELS)
def test_a_setting_cannot_replace_the_prompt(provider: str) -> None:
    """Whoever sends `messages` as a setting would send another prompt than the one that is hashed and shown."""
    with pytest.raises(ConfigError, match="messages"):
        _render(asked(provider, "m", parameters={"messages": []}))


def test_a_setting_by_the_providers_name_is_sent() -> None:
    """It stands in the body as it was given; llama.cpp's slot is one, and is left out unless somebody gives it."""
    assert "id_slot" not in _render(asked("llama-cpp", "m")).body
    assert _render(asked("llama-cpp", "m", parameters={"id_slot": 2})).body["id_slot"] == 2


@pytest.mark.parametrize(
    ("provider", "model", "setting", "said"),
    [
        ("openai", "gpt-4o", {"top_k": 3}, "top_k=3"),
        ("openai", "gpt-5.6", {"temperature": 0.3}, "temperature=0.3"),
        ("openai", "gpt-5.6", {"stop": ["x"]}, "stop texts"),
        ("openai", "gpt-4o", {"stop": list("abcde")}, "first 4"),
        ("openai", "gpt-4o", {"loras": [("a", 1)]}, "LoRA"),
        ("openai", "gpt-4o", {"response_schema": {"type": "object", "properties": {"a": {}}}}, "schema"),
        ("openai", "gpt-4o", {"prefix_ttl": "1h"}, "prefix_ttl"),
        ("openai", "gpt-5.6", {"prefix_ttl": "1h"}, "12h"),
        ("openai", "gpt-5.6", {"messages": [{"role": "tool", "content": "x"}]}, "role tool"),
        ("anthropic", "claude-opus-5", {"seed": 3}, "seed=3"),
        ("anthropic", "claude-opus-5", {"temperature": 0.0}, "temperature=0.0"),
        ("anthropic", "claude-opus-5", {"top_p": 0.5}, "top_p"),
        ("anthropic", "claude-opus-5", {"top_k": 5}, "top_k"),
        ("anthropic", "claude-opus-5", {"loras": [("a", 1)]}, "LoRA"),
        ("anthropic", "claude-opus-5", {}, "max_tokens=4096"),
        ("anthropic", "claude-opus-5", {"stop": [" "]}, "blanks"),
        ("anthropic", "claude-opus-5", {"cache_key": "k"}, "cache_key"),
        (
            "anthropic",
            "claude-opus-5",
            {"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]},
            "system message",
        ),
        ("vllm", "m", {"loras": [("a", 1)]}, "LoRA"),
        ("vllm", "m", {"prefix_ttl": "1h"}, "prefix_ttl"),
        ("sglang", "m", {"loras": [("a", 0.5)]}, "weight"),
        ("sglang", "m", {"loras": [("a", 1), ("b", 1)]}, "LoRA"),
        ("sglang", "m", {"prefix_ttl": "1h"}, "prefix_ttl"),
        ("llama-cpp", "m", {"loras": [("a", 1)]}, "by number"),
        ("llama-cpp", "m", {"cache_key": "k"}, "cache_key"),
        ("llama-cpp", "m", {"prefix_ttl": "1h"}, "prefix_ttl"),
    ],
)
def test_what_is_not_sent_is_said(provider: str, model: str, setting: dict[str, Any], said: str) -> None:
    """No setting is dropped in silence."""
    plain = asked(provider, model, max_tokens=5)
    assert said not in _notes(plain)
    assert said in _notes(asked(provider, model, **setting))


@pytest.mark.parametrize(
    ("provider", "model"), [(provider, model) for provider, model in _EACH if model != "gpt-5.6"]
)
def test_nothing_is_said_of_what_is_sent(provider: str, model: str) -> None:
    """A note is about something that somebody asked for."""
    assert provider_named(provider).renderer.notes(asked(provider, model, max_tokens=5)) == ()


def test_loras_are_sent_where_they_can_be() -> None:
    """SGLang takes one by name, llama.cpp any by number, and their prefixes are not those of the bare model."""
    named, plain = (_render(asked("sglang", "m", loras=loras)) for loras in ([("style", 1.0)], []))
    assert named.body["lora_path"] == "style"
    assert set(named.prefixes).isdisjoint(plain.prefixes)
    numbered, bare = (_render(asked("llama-cpp", "m", loras=loras)) for loras in ([("0", 0.5)], []))
    assert numbered.body["lora"] == [{"id": 0, "scale": 0.5}]
    assert set(numbered.prefixes).isdisjoint(bare.prefixes)


def test_a_reasoning_model_gets_no_temperature_unless_it_is_told_not_to_reason() -> None:
    """It would refuse the request."""
    assert "temperature" not in _render(asked("openai", "gpt-5.6")).body
    assert "temperature" in _render(asked("openai", "gpt-5.6", parameters={"reasoning_effort": "none"})).body
    assert "temperature" in _render(asked("openai", "gpt-5.2-chat-latest")).body
    assert "temperature" in _render(asked("openai", "gpt-4o")).body


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (SCHEMA, True),
        (
            {"type": "object", "properties": {"a": SCHEMA}, "required": ["a"], "additionalProperties": False},
            True,
        ),
        ({**SCHEMA, "required": ["reason"]}, False),
        ({"type": "array", "items": {"type": "object", "properties": {}}}, False),
        ({"type": "string"}, True),
    ],
)
def test_strict_is_asked_for_where_it_can_be(schema: dict[str, Any], strict: bool) -> None:
    """OpenAI refuses strict mode for a schema that leaves anything open."""
    assert is_strict(schema) is strict


@pytest.mark.parametrize(("provider", "model"), _EACH)
def test_a_renderer_is_pure(provider: str, model: str) -> None:
    """Twice the same, and nothing of what it was given is touched."""
    wanted = case("whole", provider, model)
    before = wanted.model_dump_json()
    assert _render(wanted).digest == _render(wanted).digest
    assert wanted.model_dump_json() == before
