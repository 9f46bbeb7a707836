"""How a prompt is said on a command line: whom, what goes before the turn, and with which settings.

Source: spec 6 §Faces.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from xprim_nb.cli.ai_options import model_of
from xprim_nb.cli.ai_printing import prompt_from_stdin
from xprim_nb.errors import ConfigError

__all__ = ["UNSAID", "cache_option", "prompt_options", "said"]

UNSAID: Mapping[str, str] = {"prompt": "", "model": "any"}
"""What stands for the turn and the model where neither matters."""

_MODES = ("use", "refresh", "bypass", "only")
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
# Blocks by their option, in the order that carries the meaning: what is named `system`, too, is a block that a
# provider gets in its system message.
_BLOCKS: Mapping[str, tuple[str, str]] = {
    "system": ("requirements", "system"),
    "style": ("style_guide", ""),
    "requirements": ("requirements", ""),
    "file_maps": ("file_map", ""),
    "contexts": ("context", ""),
}
# Options that are fields under the same name; each is left out where it was not given.
_FIELDS = ("provider", "endpoint", "temperature", "top_p", "top_k", "seed", "max_tokens", "cache_key")

_OPTIONS = (
    click.option(
        "--provider",
        metavar="NAME",
        help="openai, anthropic, vllm, sglang, llama-cpp, a plug-in's, or local: a model on this machine.  [default: local]",
    ),
    click.option("--model", metavar="NAME", help="As the provider calls it; of local, group/model@version."),
    click.option("--system", type=_FILE, metavar="FILE", help="What is asked of every answer."),
    click.option("--style", type=_FILE, metavar="FILE", help="A style guide."),
    click.option("--requirements", type=_FILE, metavar="FILE", help="What this task requires."),
    click.option(
        "--file-map",
        "file_maps",
        multiple=True,
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="DIR",
        help="The texts in a folder; may be repeated.",
    ),
    click.option(
        "--context",
        "contexts",
        multiple=True,
        type=_FILE,
        metavar="FILE",
        help="Something to know; may be repeated.",
    ),
    click.option(
        "--input", "whole", type=_FILE, metavar="FILE", help="All of it, as JSON; options win over it."
    ),
    click.option("--tools", type=_FILE, metavar="FILE", help="What the model may call, as a list in JSON."),
    click.option("--schema", type=_FILE, metavar="FILE", help="JSON schema of the answer."),
    click.option("--endpoint", metavar="URL", help="A server that the settings name."),
    click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="Most tokens of the answer."),
    click.option(
        "--temperature",
        type=click.FloatRange(0, 2),
        metavar="T",
        help="0 takes the likeliest token each time.",
    ),
    click.option(
        "--top-p", type=click.FloatRange(0, 1, min_open=True), metavar="P", help="See the provider."
    ),
    click.option("--top-k", type=click.IntRange(min=0), metavar="K", help="0 for no limit."),
    click.option(
        "--seed", type=int, metavar="N", help="The same seed gives the same text, where it is honoured."
    ),
    click.option(
        "--stop", "stops", multiple=True, metavar="TEXT", help="End before this text; may be repeated."
    ),
    click.option(
        "--lora", "loras", multiple=True, metavar="NAME[*WEIGHT]", help="A LoRA layer; may be repeated."
    ),
    click.option(
        "--param",
        "parameters",
        multiple=True,
        metavar="KEY=VALUE",
        help="A setting of the provider's own, its value as JSON or text; may be repeated.",
    ),
    click.option(
        "--cache-key", metavar="KEY", help="Routes equal prefixes together, where the provider can."
    ),
)


def prompt_options(function: click.decorators.FC) -> click.decorators.FC:
    """PROMPT, and everything that can be said with it."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return click.argument("prompt", metavar="[PROMPT]", required=False)(function)


cache_option = click.option(
    "--cache",
    type=click.Choice(_MODES),
    help="use it; refresh: ask, and keep; bypass: ask, and keep nothing; only: never ask.  [default: use]",
)
"""Whether the cache may answer."""


def said(how: dict[str, Any], *, needs_prompt: bool = True) -> dict[str, Any]:
    """The fields of `ResolveInput` that the options have said, taken out of `how`.

    Args:
        how: The options by name; what is none of these stays.
        needs_prompt: Whether the turn matters; where not, stdin is not read for it, and no model need be named.

    Raises:
        ConfigError: A file is no JSON, or no UTF-8, or nothing is asked.
        click.UsageError: `--param` has no `KEY=VALUE`.
    """
    whole, prompt = how.pop("whole"), how.pop("prompt")
    fields: dict[str, Any] = _mapping(whole) if whole is not None else {}
    blocks = _blocks(how)
    if blocks:
        fields["blocks"] = [*fields.get("blocks", ()), *blocks]
    for name, option in (("tools", "tools"), ("response_schema", "schema")):
        path = how.pop(option)
        if path is not None:
            fields[name] = _json(path)
    parameters = _pairs(how.pop("parameters"))
    if parameters:
        fields["parameters"] = {**fields.get("parameters", {}), **parameters}
    _settings(how, fields)
    fields.setdefault("provider", "local")
    if not needs_prompt:
        fields = {**UNSAID, **fields}
    if prompt == "-" or (prompt is None and "prompt" not in fields and not sys.stdin.isatty()):
        prompt = prompt_from_stdin()
    if prompt is not None:
        fields["prompt"] = prompt
    if "prompt" not in fields:
        raise ConfigError("Nothing is asked.", subject="prompt", hint="Give a PROMPT, or one on stdin.")
    return fields


def _settings(how: dict[str, Any], fields: dict[str, Any]) -> None:
    model, stops, loras, cache = how.pop("model"), how.pop("stops"), how.pop("loras"), how.pop("cache", None)
    fields |= {name: value for name in _FIELDS if (value := how.pop(name)) is not None}
    if model is not None:
        fields["model"] = model_of(model) if fields.get("provider", "local") == "local" else model
    if stops:
        fields["stop"] = list(stops)
    if loras:
        # Loaded here: an engine's module is nothing that `--help` should wait for.
        from xprim_nb.scheduling.asking import parse_loras  # noqa: PLC0415  # house: as above

        fields["loras"] = [list(each) for each in parse_loras([_layer(each) for each in loras])]
    if cache is not None:
        fields["cache"] = cache


def _layer(text: str) -> str:
    name, star, weight = text.partition("*")
    return f"{model_of(name.strip())}{star}{weight}"


def _blocks(how: dict[str, Any]) -> list[Any]:
    from xprim_nb.prompts.inputs import block_of  # noqa: PLC0415  # house: pydantic, which `--help` need not load

    found = []
    for option, (kind, name) in _BLOCKS.items():
        given = how.pop(option)
        paths: Sequence[Path] = given if isinstance(given, tuple) else () if given is None else (given,)
        found += [block_of(kind, path, name or path.resolve().name) for path in paths]  # type: ignore[arg-type]  # listed above
    return found


def _json(path: Path) -> Any:  # noqa: ANN401  # any JSON value
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path} is no JSON: {error}", subject=str(path), hint="Mend the file.") from error


def _mapping(path: Path) -> dict[str, Any]:
    found = _json(path)
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds no object.", subject=str(path), hint='{"prompt": "…", "model": "…"}')
    return found


def _pairs(texts: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.UsageError(f"--param {text!r} is no KEY=VALUE.")
        try:
            found[key.strip()] = json.loads(value)
        except ValueError:
            found[key.strip()] = value
    return found
