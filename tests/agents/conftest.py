"""A base with two models in it, a server of documents, and a schema that every answer is held against."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from xprim_nb.agents import tool_schemas
from xprim_nb.testing.faulty_registry import FaultyRegistry

from ..cache.rooms import Room, blocks

PAGES = {
    "card.json": b'{"title": "Tiny"}',
    "README.md": b"# Tiny\n",
    "usage.py": b"print('hello')\n",
}


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """A registry of two models, one in two versions."""
    made = Room.at(tmp_path)
    made.publish(
        {
            "demo/tiny v1": {
                "model.bin": blocks("a", "b", "c"),
                "README.md": b"---\nlicense: mit\n---\n# Tiny\n",
            },
            "demo/tiny v2": {"model.bin": blocks("a", "b", "d")},
            "demo/other v1": {"model.bin": blocks("e", "f")},
        }
    )
    return made


@pytest.fixture
def site() -> Iterator[FaultyRegistry]:
    """A server of documents."""
    with FaultyRegistry(PAGES) as server:
        yield server


def bundle_payload(url: str, **changes: Any) -> dict[str, Any]:
    """What makes a bundle of demo/tiny."""
    return {
        "model_id": "demo/tiny v1",
        "source_urls": {
            "model_card": f"{url}/card.json",
            "documentation": [f"{url}/README.md"],
            "examples": [f"{url}/usage.py"],
        },
        "validation_rules": {
            "required_files": ["README.md"],
            "max_age_days": 30,
            "checksum_validation": True,
        },
        **changes,
    }


@pytest.fixture
def fits() -> Callable[[str, Any], Any]:
    """Asserts that an answer validates against the output schema of a tool, and hands it on."""
    validators = {
        each["name"]: jsonschema.Draft202012Validator(
            each["output_schema"], format_checker=jsonschema.FormatChecker()
        )
        for each in tool_schemas()
    }

    def check(name: str, answer: Any) -> Any:
        validators[name].validate(answer)
        return answer

    return check
