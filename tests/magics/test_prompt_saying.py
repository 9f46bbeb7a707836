"""What a line of `%xprim prompts` or a cell of `%%prompt` asks: a prompt, and the fields that are named beside it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from xprim_nb.magics import parsing
from xprim_nb.magics.prompt_options import NUMBERS, TEXTS, VARIABLES
from xprim_nb.magics.prompt_saying import said, said_in_cell
from xprim_nb.prompts.inputs import input_of
from xprim_nb.prompts.values import PromptBlock, ResolveInput

from ..prompting import ASKED, answered, resolved


def _line(text: str) -> argparse.Namespace:
    return parsing.parse(parsing.split(f"prompts {text}"))


def _cell(text: str) -> argparse.Namespace:
    return parsing.parse_cell("prompt", parsing.split(text))


@pytest.mark.parametrize("value", [ASKED, answered(), resolved(ASKED), ASKED.model_dump(exclude_unset=True)])
def test_a_variable_brings_the_prompt(shell: InteractiveShell, value: object) -> None:
    """A request, a mapping of its fields, or what was made of one: each brings the same prompt."""
    shell.user_ns["ours"] = value
    prompt, fields = said(shell, _line("resolve ours"))
    assert input_of(prompt, **fields) == ASKED


def test_a_file_or_a_sentence_is_a_prompt_too(shell: InteractiveShell, tmp_path: Path) -> None:
    """A JSON file holds the fields; what is no name is the turn itself, for a model on this machine."""
    path = tmp_path / "ours.json"
    path.write_text(
        json.dumps({"prompt": "Why?", "provider": "openai", "model": "gpt-5.6"}), encoding="utf-8"
    )
    prompt, fields = said(shell, _line(f"resolve '{path}' --temperature 0.5"))
    assert input_of(prompt, **fields) == ResolveInput(
        prompt="Why?", provider="openai", model="gpt-5.6", temperature=0.5
    )
    prompt, fields = said(shell, _line("resolve 'Why is it?' --model demo/tiny-llama@v2"))
    assert input_of(prompt, **fields) == ResolveInput(
        prompt="Why is it?", provider="local", model="demo/tiny-llama@v2"
    )


def test_options_are_fields(shell: InteractiveShell) -> None:
    """Variables, texts, numbers, stops, layers and settings reach the request; what is not named keeps its default."""
    blocks = (PromptBlock(type="requirements", content="Be exact."),)
    shell.user_ns.update(blocks=blocks, facts={"day": 1}, talk=[{"role": "user", "content": "Hello"}])
    asked = _cell(
        "--provider openai --model m --blocks blocks --context facts --messages talk --max-tokens 5 --top-k 3 --seed 1"
        " --stop END --stop . --lora 'a/b v1*0.5' --set reasoning_effort=low --prefix-ttl 1h --cache refresh"
        " --scaffold-type review --cache-key k"
    )
    prompt, fields = said_in_cell(shell, asked, "Why?\n")
    found = input_of(prompt, **fields)
    assert found.blocks == blocks
    assert found.model_dump(exclude_unset=True) | {"blocks": None} == {
        "prompt": "Why?", "provider": "openai", "model": "m", "blocks": None, "context": {"day": 1},
        "messages": ({"role": "user", "content": "Hello"},), "max_tokens": 5, "top_k": 3, "seed": 1,
        "stop": ("END", "."), "loras": (("a/b v1", 0.5),), "parameters": {"reasoning_effort": "low"},
        "prefix_ttl": "1h", "cache": "refresh", "scaffold_type": "review", "cache_key": "k",
    }  # fmt: skip


def test_a_cell_is_the_turn_of_what_a_variable_brings(shell: InteractiveShell) -> None:
    """With `--from` everything but the turn stays; options win over it."""
    shell.user_ns["ours"] = ASKED.model_copy(update={"max_tokens": 5})
    prompt, fields = said_in_cell(shell, _cell("--from ours --seed 3"), "And why not?\n\n")
    found = input_of(prompt, **fields)
    assert (found.prompt, found.max_tokens, found.seed) == ("And why not?\n", 5, 3)
    assert found.provider == "anthropic"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("resolve nothing", "there is no variable nothing"),
        ("resolve number", "number is no prompt, but int"),
        ("resolve gone.json", "gone.json cannot be read"),
        ("resolve ours --blocks gone", "--blocks gone: there is no variable of that name"),
    ],
)
def test_what_is_not_there_is_one_line(shell: InteractiveShell, text: str, what: str) -> None:
    """A name without a variable, a value that is no prompt, a file that is not there."""
    shell.user_ns.update(number=3, ours=ASKED)
    with pytest.raises(UsageError, match=what) as caught:
        said(shell, _line(text))
    assert "\n" not in str(caught.value)


def test_a_sentence_cannot_be_what_a_cell_is_the_turn_of(shell: InteractiveShell) -> None:
    """`--from` wants a prompt that has everything but the turn."""
    shell.user_ns["ours"] = "Why?"
    with pytest.raises(UsageError, match="it is no prompt"):
        said_in_cell(shell, _cell("--from ours"), "Why?")


def test_every_field_has_an_option() -> None:
    """A field of the request that no option names would be unreachable from a cell, silently."""
    named: set[str] = {*VARIABLES, *TEXTS, *NUMBERS, "stop", "loras", "parameters", "prompt"}
    # Samples are counted by `--samples`; rules are checked by room 7.
    assert set(ResolveInput.model_fields) - named == {"sample_index", "rulepacks"}
    options: dict[str, Any] = vars(_cell(""))
    assert named <= set(options)
