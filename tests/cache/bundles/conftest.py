"""A server of documents, a base, and an installed model that tells of itself."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xprim_nb.cache.bundles.manifest import CacheInitRequest
from xprim_nb.testing.faulty_registry import FaultyRegistry

from ..rooms import Room

README = b"""---
license: apache-2.0
pipeline_tag: text-generation
tags: [small, arxiv:2307.09288]
released: 2026-01-02
model-index:
  - name: tiny
    results:
      - task: {type: text-generation}
        metrics: [{type: perplexity, value: 12.5}]
---
# Tiny

A small model that
tells of itself.

## Limits
Many.
"""


def tensors() -> bytes:
    """A safetensors file of one 4 × 2 tensor."""
    header = json.dumps({"weight": {"dtype": "F32", "shape": [4, 2], "data_offsets": [0, 32]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(32)


MODEL = {
    "README.md": README,
    "config.json": json.dumps({"model_type": "llama", "architectures": ["Tiny"], "hidden_size": 2}).encode(),
    "model.safetensors": tensors(),
}
ADAPTER = {
    "adapter_config.json": json.dumps(
        {"peft_type": "LORA", "base_model_name_or_path": "demo/tiny", "revision": "v1", "r": 4}
    ).encode(),
    "adapter_model.safetensors": tensors(),
}


class Pages(dict[str, bytes]):
    """What the server serves, by path; a test may change it at any time."""


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """A registry with a model and an adapter, and a base that pulls from it."""
    made = Room.at(tmp_path)
    made.publish({"demo/tiny v1": MODEL, "demo/lora v1": ADAPTER})
    return made


@pytest.fixture
def pages() -> Pages:
    """The documents of one model."""
    return Pages(
        {
            "card.json": b'{"title": "Tiny"}',
            "docs/README.md": b"# Tiny\n",
            "docs/usage_guide.md": b"Use it.\n",
            "ex/basic_usage.py": b"print('hello')\n",
            "papers/2307.09288": b"%PDF-1.7 ...",
        }
    )


@pytest.fixture
def site(pages: Pages) -> Iterator[FaultyRegistry]:
    """The server."""
    with FaultyRegistry(pages) as server:
        yield server


def request_for(url: str, **changes: Any) -> CacheInitRequest:
    """A request for every page of `pages` below a URL."""
    rules = {
        "required_files": ["model_card.json", "documentation/README.md", "basic_usage.py"],
        "max_age_days": 30,
        "checksum_validation": True,
    }
    return CacheInitRequest.model_validate(
        {
            "model_id": "demo/tiny v1",
            "source_urls": {
                "model_card": f"{url}/card.json",
                "documentation": [f"{url}/docs/README.md", f"{url}/docs/usage_guide.md"],
                "examples": [f"{url}/ex/basic_usage.py"],
                "papers": [f"{url}/papers/2307.09288"],
            },
            "validation_rules": {**rules, **changes},
        }
    )
