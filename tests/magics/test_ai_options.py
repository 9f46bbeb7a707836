"""What `%%generate` and the commands about models take."""

from __future__ import annotations

import math

import pytest
from IPython.core.error import UsageError

from xprim_nb.magics import parsing
from xprim_nb.magics.ai_options import settings_of
from xprim_nb.magics.naming import model_named


def test_generate_is_parsed() -> None:
    """Each option is read as what the engine wants; what is not given has the engine's own default."""
    words = parsing.split(
        "demo/tiny-llama v2 --max-tokens 5 --temperature 0.7 --top-p 0.9 --top-k 40 --seed 3 --stop END --stop '\n\n'"
        " --lora 'demo/lora-json v1*0.5' --priority batch --timeout none --no-install --as reply --system 'Be brief.'"
        " --messages talk --context-tokens 512 --dtype float32 --set threads=2 --set cache=false --set-scale=1"
        .replace("--set-scale=1", "--set scale=0.5")
    )  # fmt: skip
    asked = parsing.parse_cell("generate", words)
    assert model_named(asked) == "demo/tiny-llama v2"
    assert (asked.max_tokens, asked.temperature, asked.top_p, asked.top_k, asked.seed) == (5, 0.7, 0.9, 40, 3)
    assert (asked.stop, asked.loras) == (["END", "\n\n"], ["demo/lora-json v1*0.5"])
    assert (asked.priority, asked.timeout, asked.install) == ("batch", math.inf, False)
    assert (asked.name, asked.system, asked.messages) == ("reply", "Be brief.", "talk")
    assert settings_of(asked) == {
        "threads": 2, "cache": False, "scale": 0.5, "context_tokens": 512, "dtype": "float32",
    }  # fmt: skip
    plain = parsing.parse_cell("generate", ["ollama:llama3.2:3b"])
    assert (model_named(plain), settings_of(plain)) == ("ollama:llama3.2:3b", {})
    assert (plain.max_tokens, plain.temperature, plain.stop, plain.install) == (256, 0.0, [], None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a/b", "--max-tokens", "0"], "'0' is not a whole number from 1"),
        (["a/b", "--max-tokens", "few"], "'few' is not a whole number from 1"),
        (["a/b", "--temperature", "-1"], "'-1' is not a number from 0"),
        (["a/b", "--temperature", "nan"], "'nan' is not a number from 0"),
        (["a/b", "--top-p", "0"], "'0' is not a number above 0 to 1"),
        (["a/b", "--top-p", "1.5"], "'1.5' is not a number above 0 to 1"),
        (["a/b", "--timeout", "0"], "'0' is not a number of seconds above 0, or none"),
        (["a/b", "--set", "threads"], "'threads' is no KEY=VALUE"),
        (["a/b", "--priority", "urgent"], "invalid choice: 'urgent'"),
        (["a/b", "--max-token", "3"], "did you mean --max-tokens?"),
        ([], "%%generate: the following arguments are required: REF"),
    ],
)
def test_mistakes_are_one_line(words: list[str], said: str) -> None:
    """Each names the option and what is wrong, in one line."""
    with pytest.raises(UsageError) as caught:
        parsing.parse_cell("generate", words)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_help_has_the_cell_magic() -> None:
    """`%xprim help` names `%%generate`, and `%xprim help generate` shows what it takes."""
    assert "%%generate" in parsing.help_text()
    told = parsing.help_text("generate")
    assert told.startswith("usage: %%generate")
    assert all(name in told for name in parsing.options_of("generate"))
    assert "--no-install" in parsing.options_of("generate")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["demo/tiny@v2"], "demo/tiny v2"),
        (["demo/tiny", "v2"], "demo/tiny v2"),
        (["numpy:demo/tiny@v2"], "numpy:demo/tiny v2"),
        (["./my model"], "./my model"),
        (["C:\\models\\tiny"], "C:\\models\\tiny"),
        (["mine:Qwen/Qwen3-0.6B"], "mine:Qwen/Qwen3-0.6B"),
    ],
)
def test_models_are_named_as_the_engine_has_them(words: list[str], name: str) -> None:
    """A version behind an `@` is one behind a space; paths and servers' names stay as they are."""
    assert model_named(parsing.parse(["load", *words])) == name
