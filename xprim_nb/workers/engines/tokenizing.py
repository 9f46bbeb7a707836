"""Text comes in, token ids go out, and back: the model's `tokenizer.json`, as transformers' AutoTokenizer uses it.

The package `tokenizers` reads them all. Without it, `bytetokens` reads those whose tokens are single bytes.

    tokenizing   which reader, special tokens, bos, chat template
      ├─▶ bytetokens   byte-level tokens without merges; needs no package
      └─▶ chat         the chat template

Source: spec 4 §Install on first use; transformers' `tokenization_utils_tokenizers` and `LlamaTokenizer`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from .bytetokens import ByteReader, refusal
from .jsonfiles import read_json

__all__ = ["PromptTooLongError", "Reader", "Tokenizer"]

_SPACE = "▁"


class PromptTooLongError(ValueError):
    """A prompt leaves no room for an answer. Its name crosses the pipe: whoever asked is told how to get more room.

    Args:
        prompt_tokens: Of the prompt.
        context_tokens: Room for prompt and answer, as the model is loaded.
    """

    def __init__(self, prompt_tokens: int, context_tokens: int) -> None:
        super().__init__(
            f"The prompt has {prompt_tokens} tokens, which leaves no room for an answer in a context of {context_tokens}."
        )


class Reader(Protocol):
    """What a tokenizer file can do."""

    def encode(self, text: str, *, special: bool) -> list[int]:
        """The ids of a text; with what the file adds around one when `special`."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out; bytes that are no whole character become U+FFFD."""
        ...

    def find(self, token: str) -> int | None:
        """The id of a token, or None."""
        ...


class Tokenizer:
    """One model's tokenizer.

    Args:
        folder: The model's directory.

    Raises:
        ValueError: It has no tokenizer that can be read; the message names the file.
        ImportError: It needs `tokenizers`, which is not installed here.
        OSError: A file cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise ValueError(f"There is no tokenizer.json in {folder}.")
        document = read_json(file)
        settings = _settings(folder)
        # What a template may name, and what is matched in a text as it stands.
        self._words = {
            name: word for name in settings if name.endswith("_token") and (word := _content(settings[name]))
        }
        self._reader: Reader = _open(document, settings, self._words)
        self._bos = self._reader.find(self._words["bos_token"]) if "bos_token" in self._words else None
        self._template = _template(folder, settings)

    def encode_prompt(self, prompt: str) -> list[int]:
        """The ids of a prompt, with what the tokenizer puts before and after one.

        Raises:
            ValueError: There are none: the prompt is empty, and the model has no token that begins a text.
        """
        ids = self._reader.encode(prompt, special=True)
        if ids:
            return ids
        if self._bos is None:
            raise ValueError("The prompt is empty, and the model has no token that begins a text.")
        return [self._bos]

    def encode_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """The ids of a conversation as the chat template lays it out; bos is the template's own business.

        Raises:
            ValueError: There is no template, or it refuses these messages.
            ImportError: jinja2 is not installed here.
        """
        if self._template is None:
            raise ValueError("The model has no chat template: give it a prompt instead of messages.")
        from .chat import render_chat  # noqa: PLC0415  # jinja2 may be missing where nobody chats

        ids = self._reader.encode(render_chat(self._template, messages, self._words), special=False)
        if not ids:
            raise ValueError("The chat template makes nothing of these messages.")
        return ids

    def count(self, text: str) -> int:
        """Tokens of a part of a prompt, with nothing put around it."""
        return len(self._reader.encode(text, special=False))

    @property
    def chats(self) -> bool:
        """Whether there is a chat template."""
        return self._template is not None

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out."""
        return self._reader.decode(ids)


def _open(document: Mapping[str, Any], settings: Mapping[str, Any], words: Mapping[str, str]) -> Reader:
    try:
        import tokenizers  # noqa: F401, PLC0415  # optional
    except ImportError as error:
        # transformers adds what a tokenizer's file lacks, under new ids; that is not built there.
        why = refusal(document, settings, words)
        if why:
            raise ImportError(
                f"No module named 'tokenizers', which this model's tokenizer.json needs: {why}",
                name="tokenizers",
            ) from error
        return ByteReader(document)
    return _PackageReader(document, settings, words)


class _PackageReader:
    """The package's own, set up as transformers does it.

    What stands before and after a prompt is the file's alone: where there is one, transformers ignores
    `add_bos_token` of the settings.
    """

    def __init__(
        self, document: Mapping[str, Any], settings: Mapping[str, Any], words: Mapping[str, str]
    ) -> None:
        from tokenizers import AddedToken, Tokenizer  # noqa: PLC0415  # optional

        try:
            self._tokenizer = Tokenizer.from_str(json.dumps(_as_transformers(document, settings)))
        except Exception as error:
            raise ValueError(f"tokenizer.json cannot be read: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = bool(settings.get("split_special_tokens"))
        known = {token.content for token in self._tokenizer.get_added_tokens_decoder().values()}
        lacking = [AddedToken(**each) for each in _declared(settings) if each["content"] not in known]
        self._tokenizer.add_tokens(lacking)
        self._tokenizer.add_special_tokens(
            [AddedToken(word, special=True, normalized=False) for word in words.values() if word not in known]
        )

    def encode(self, text: str, *, special: bool) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=special).ids)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def find(self, token: str) -> int | None:
        found = self._tokenizer.token_to_id(token)
        return None if found is None else int(found)


def _as_transformers(document: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The file as transformers loads it: what declares Llama's first tokenizer is built anew, unless it is byte-level."""
    found = dict(document)
    name = str(settings.get("tokenizer_class") or "").removesuffix("Fast")
    if name != "LlamaTokenizer" or '"ByteLevel"' in json.dumps(document):
        return found
    prefix = settings.get("add_prefix_space") is not False
    scheme = ("always" if settings.get("legacy", False) else "first") if prefix else "never"
    found["normalizer"] = None
    found["pre_tokenizer"] = {
        "type": "Metaspace", "replacement": _SPACE, "prepend_scheme": scheme, "split": False,
    }  # fmt: skip
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    found["decoder"] = {"type": "Sequence", "decoders": decoders}
    found["model"] = {
        **document.get("model", {}), "unk_token": None, "dropout": None, "fuse_unk": True, "byte_fallback": True,
    }  # fmt: skip
    return found


# --- settings ---------------------------------------------------------------------------------------


def _settings(folder: Path) -> dict[str, Any]:
    file, older = folder / "tokenizer_config.json", folder / "special_tokens_map.json"
    found = read_json(file) if file.is_file() else {}
    if older.is_file() and "added_tokens_decoder" not in found:
        found.update(read_json(older))
    return found


def _content(value: object) -> str:
    """A special token's text: settings hold it plain, or with how it is matched."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""


def _declared(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tokens that the settings add, in the order of their ids."""
    declared = settings.get("added_tokens_decoder") or {}
    if not isinstance(declared, dict) or not all(
        key.isdecimal() and _content(declared[key]) for key in declared
    ):
        raise ValueError("added_tokens_decoder of tokenizer_config.json is no list of tokens by id.")
    flags = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
    return [
        {flag: declared[key][flag] for flag in flags if flag in declared[key]}
        for key in sorted(declared, key=int)
    ]


def _template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """The chat template: a file of its own comes before the settings; of several the one called `default`."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    found = settings.get("chat_template")
    if isinstance(found, list):
        found = next((each.get("template") for each in found if each.get("name") == "default"), None)
    return found if isinstance(found, str) else None
