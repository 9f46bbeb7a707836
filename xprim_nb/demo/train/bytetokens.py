"""A byte-level vocabulary: token id = byte value, then three specials.

In: text. Out: ids, and the `tokenizer.json` that makes transformers agree.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

BOS_ID, EOS_ID, PAD_ID = 256, 257, 258
SPECIALS = {"<|bos|>": BOS_ID, "<|eos|>": EOS_ID, "<|pad|>": PAD_ID}

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}\n\n{% endfor %}"
    # The model has learnt no roles, so a turn is a paragraph. The blank line matters: documents end in a
    # single newline, after which the model likes to stop.
)

Ids = npt.NDArray[np.uint16]


def encode(text: str) -> Ids:
    """The UTF-8 bytes of `text` as ids, `(bytes,) uint16`, with no special token."""
    return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.uint16)


def join_documents(documents: list[str]) -> tuple[Ids, npt.NDArray[np.int64]]:
    """All documents as one stream, each as bos, bytes, eos; and where each document's bytes begin.

    Returns:
        The stream, `(tokens,) uint16`, and the starts, `(documents,) int64`.
    """
    parts: list[Ids] = []
    starts: list[int] = []
    position = 0
    for document in documents:
        ids = encode(document)
        starts.append(position + 1)
        parts += [np.array([BOS_ID], np.uint16), ids, np.array([EOS_ID], np.uint16)]
        position += ids.size + 2
    return np.concatenate(parts), np.array(starts, dtype=np.int64)


def byte_characters() -> list[str]:
    """The printable character that stands for each byte, by byte value (256 of them).

    Source: the byte-level alphabet of GPT-2, which `tokenizers.pre_tokenizers.ByteLevel` uses: printable
    Latin-1 bytes stand for themselves, the others are moved to U+0100 and up.
    """
    printable = {
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    }
    moved = iter(range(256, 512))
    return [chr(byte if byte in printable else next(moved)) for byte in range(256)]


def tokenizer_document() -> dict[str, Any]:
    """The content of a `tokenizer.json`: byte-level BPE with no merges, so that an id is a byte."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    added = [
        {
            "id": number,
            "content": content,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for content, number in SPECIALS.items()
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {character: byte for byte, character in enumerate(byte_characters())},
            "merges": [],
        },
    }


def write_tokenizer(folder: Path, *, max_positions: int) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` into `folder` (which exists)."""
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|bos|>",
        "eos_token": "<|eos|>",
        "pad_token": "<|pad|>",
        "model_max_length": max_positions,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    document = json.dumps(tokenizer_document(), ensure_ascii=False, indent=1)
    (folder / "tokenizer.json").write_text(document + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
