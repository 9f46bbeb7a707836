"""Prompts and conversations become the ids that transformers makes of them, with the package and without."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprim_nb.workers.engines.bytetokens import ByteReader, refusal
from xprim_nb.workers.engines.tokenizing import Tokenizer

from .llamas import BASE, installed

_TEXTS = (
    "Hello, world!", " two  spaces\n\n", "naïve 😀 東京 \x00\xa0", "<|bos|>in<|eos|> the</s> middle <s>", "<|start|>x", "a",
    "",
)  # fmt: skip
_SAID = (
    [{"role": "user", "content": "Hello!"}],
    [
        {"role": "system", "content": "Be <b>brief</b>."},
        {"role": "user", "content": " Why? "},
        {"role": "assistant", "content": "So."},
        {"role": "user", "content": "<|eos|>"},
    ],
)
_TEMPLATE = """
{%- if messages[0].role == 'system' %}{{ bos_token }}{{ '<|start|>system\\n' + messages[0].content }}
    {% set messages = messages[1:] %}
{% endif %}
{% for message in messages %}
    {% if loop.index > 7 %}{% break %}{% endif %}
    {%- set ns = namespace(said=message.content | trim) %}
    {{- '<|start|>' + message['role'] + '\\n' + ns.said + eos_token + '\\n' }}
    {%- if message.role == 'assistant' %}{% generation %}{{ message | tojson }}{% endgeneration %}{% endif %}
{% endfor %}
{% if add_generation_prompt %}{{ '<|start|>assistant\\n' }}{% endif %}
{{ dict(a=strftime_now('%Y') | length) | tojson(indent=2) }}{{ tools is none }}{{ unk_token }}{{ pad_token }}"""


def _make(folder: Path, kind: str, **settings: Any) -> Path:
    """A directory with a small trained tokenizer: `bytes` as Llama 3 has, or `spaces` as Llama 2 has."""
    tokenizers = pytest.importorskip("tokenizers")
    corpus = [(installed(BASE) / "README.md").read_text()] * 2
    specials = ["<unk>", "<s>", "</s>", "<|bos|>", "<|eos|>", "<|start|>"]
    if kind == "bytes":
        made = tokenizers.Tokenizer(tokenizers.models.BPE())
        made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = tokenizers.decoders.ByteLevel()
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    else:
        made = tokenizers.Tokenizer(
            tokenizers.models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True)
        )
        made.normalizer = tokenizers.normalizers.Sequence(
            [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
        )
        steps = tokenizers.decoders
        made.decoder = steps.Sequence(
            [steps.Replace("▁", " "), steps.ByteFallback(), steps.Fuse(), steps.Strip(" ", 1, 0)]
        )
        alphabet = []
        specials += [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=700, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(corpus, trainer)
    document = json.loads(made.to_str())
    # The bytes are tokens like others: only what the trainer calls special is matched in a text.
    document["added_tokens"] = [
        each for each in document["added_tokens"] if not each["content"].startswith("<0x")
    ]
    bos = made.token_to_id("<|bos|>")
    document["post_processor"] = {
        "type": "TemplateProcessing", "pair": [],
        "single": [{"SpecialToken": {"id": "<|bos|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {"<|bos|>": {"id": "<|bos|>", "ids": [bos], "tokens": ["<|bos|>"]}},
    }  # fmt: skip
    plain = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|bos|>", "eos_token": "<|eos|>",
        "pad_token": None, "unk_token": "<unk>", "chat_template": _TEMPLATE, "clean_up_tokenization_spaces": False,
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(document))
    (folder / "tokenizer_config.json").write_text(json.dumps({**plain, **settings}))
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder


def _agree(folder: Path) -> None:
    """Ids of prompts and of conversations, and the text of ids, are transformers'."""
    transformers = pytest.importorskip("transformers")
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), Tokenizer(folder)
    for text in _TEXTS:
        expected = theirs(text).input_ids
        assert not expected or ours.encode_prompt(text) == expected
        assert ours.decode(expected) == theirs.decode(expected, skip_special_tokens=True)
    for said in _SAID:
        expected = theirs.apply_chat_template(said, add_generation_prompt=True).input_ids
        assert ours.encode_chat(said) == expected


def test_the_demo_model_has_the_ids_of_transformers() -> None:
    """No bos before a prompt, none before a conversation: its tokenizer adds nothing."""
    _agree(installed(BASE))
    assert Tokenizer(installed(BASE)).encode_prompt("é") == list("é".encode())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tokenizer_class": "LlamaTokenizerFast"},
        {"add_bos_token": False},
        {"add_bos_token": True, "add_eos_token": True},
        {"add_bos_token": True, "bos_token": {"__type": "AddedToken", "content": "<s>"}},
        {"image_token": "<|start|>", "chat_template": "{{ image_token }}x"},
        {"added_tokens_decoder": {"700": {"content": "two ", "special": False, "normalized": False}}},
        {"split_special_tokens": True},
        {"pad_token": "<new pad>"},
        {"chat_template": [{"name": "tools", "template": "x"}, {"name": "default", "template": _TEMPLATE}]},
    ],
    ids=str,
)  # fmt: skip
def test_byte_level_tokens_are_those_of_transformers(settings: dict[str, Any], tmp_path: Path) -> None:
    """Merged byte-level tokens, their bos and their template, under each setting that changes ids."""
    _agree(_make(tmp_path, "bytes", **settings))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tokenizer_class": "LlamaTokenizer"},
        {"tokenizer_class": "LlamaTokenizer", "legacy": True},
        {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False},
        {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": True, "bos_token": "<s>"},
    ],
    ids=str,
)
def test_tokens_of_words_are_those_of_transformers(settings: dict[str, Any], tmp_path: Path) -> None:
    """Tokens with spaces for words, as Llama 2 has: transformers builds some anew, and so it is done here."""
    _agree(_make(tmp_path, "spaces", **settings))


def test_a_template_of_its_own_comes_first(tmp_path: Path) -> None:
    """`chat_template.jinja` wins over the settings, as in transformers."""
    folder = _make(tmp_path, "bytes")
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }} only\n")
    _agree(folder)


def test_special_tokens_may_be_in_a_file_of_their_own(tmp_path: Path) -> None:
    """`special_tokens_map.json` of older models names them; a template may use them."""
    folder = _make(tmp_path, "bytes", bos_token=None, eos_token=None)
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False, "rstrip": False}})
    )
    _agree(folder)


def test_an_empty_prompt_begins_with_bos(tmp_path: Path) -> None:
    """Where nothing is said the token that begins a text stands alone; without one there is nothing to go on."""
    assert Tokenizer(installed(BASE)).encode_prompt("") == [256]
    (tmp_path / "tokenizer.json").write_bytes((installed(BASE) / "tokenizer.json").read_bytes())
    with pytest.raises(ValueError, match="empty"):
        Tokenizer(tmp_path).encode_prompt("")


def test_a_model_without_a_template_refuses_messages(tmp_path: Path) -> None:
    """The sentence says what to do instead."""
    tokenizer = Tokenizer(_make(tmp_path, "bytes", chat_template=None))
    with pytest.raises(ValueError, match="no chat template: give it a prompt"):
        tokenizer.encode_chat(_SAID[0])


def test_a_model_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    """The file that is missing is named."""
    with pytest.raises(ValueError, match=r"no tokenizer\.json"):
        Tokenizer(tmp_path)


# --- without the package ----------------------------------------------------------------------------


def test_byte_tokens_need_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The own reader gives what the package gives: ids of prompts and conversations, and text."""
    pytest.importorskip("tokenizers")
    package = Tokenizer(installed(BASE))
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    own = Tokenizer(installed(BASE))
    assert isinstance(own._reader, ByteReader)
    for text in _TEXTS:
        assert own.encode_prompt(text) == package.encode_prompt(text)
    for said in _SAID:
        assert own.encode_chat(said) == package.encode_chat(said)


@given(st.lists(st.integers(0, 258), max_size=30))
def test_byte_tokens_decode_as_the_package_decodes(ids: Sequence[int]) -> None:
    """Whatever ids come, specials and broken characters among them, the text is the same."""
    tokenizers = pytest.importorskip("tokenizers")
    file = installed(BASE) / "tokenizer.json"
    expected = tokenizers.Tokenizer.from_file(str(file)).decode(list(ids), skip_special_tokens=True)
    assert ByteReader(json.loads(file.read_text())).decode(ids) == expected


def test_other_tokens_need_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the package, so that whoever reads it knows what to install."""
    folder = _make(tmp_path, "bytes")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"No module named 'tokenizers'.*merging") as caught:
        Tokenizer(folder)
    assert caught.value.name == "tokenizers"


_BYTES = json.loads((installed(BASE) / "tokenizer.json").read_text())


@pytest.mark.parametrize(
    ("change", "settings", "told"),
    [
        ({"model": {**_BYTES["model"], "type": "Unigram"}}, {}, "merging"),
        ({"model": {**_BYTES["model"], "merges": [["a", "b"]]}}, {}, "merging"),
        ({"model": {**_BYTES["model"], "vocab": {"a": 0}}}, {}, "not the bytes"),
        ({"normalizer": {"type": "NFC"}}, {}, "normalizer"),
        ({"post_processor": {"type": "TemplateProcessing"}}, {}, "post_processor"),
        ({"pre_tokenizer": {**_BYTES["pre_tokenizer"], "use_regex": True}}, {}, "splits text"),
        ({"decoder": None}, {}, "decoder"),
        ({"added_tokens": [{**_BYTES["added_tokens"][0], "lstrip": True}]}, {}, "special way"),
        ({"added_tokens": [{**_BYTES["added_tokens"][0], "special": False}]}, {}, "ordinary text"),
        ({"added_tokens": []}, {}, "not all in it"),
        ({}, {"split_special_tokens": True}, "split_special_tokens"),
    ],
)
def test_what_is_not_exactly_byte_tokens_is_not_read_without_the_package(
    change: dict[str, Any], settings: dict[str, Any], told: str
) -> None:
    """Each part of the file that would change an id is a reason."""
    words = {"bos_token": "<|bos|>"}
    assert refusal(_BYTES, {}, words) == ""
    assert told in refusal({**_BYTES, **change}, settings, words)
