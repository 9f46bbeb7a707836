"""What people hand in: keywords, texts and folders become one value, or an error that names the field and no secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xprim_nb.errors import ConfigError
from xprim_nb.prompts.inputs import block_of, file_map_of, input_of

_WHOM: dict[str, Any] = {"provider": "local", "model": "m"}


def test_three_ways_to_say_the_same() -> None:
    """A turn with keywords, a mapping and a value are one request; keywords win over what they come with."""
    said = input_of("Why?", temperature=0.5, **_WHOM)
    assert input_of({"prompt": "Why?", "temperature": 0.5, **_WHOM}) == said
    assert input_of(said) is said
    assert input_of(said, temperature=0.25).temperature == 0.25
    assert input_of({"prompt": "Why?", "temperature": 1.0, **_WHOM}, temperature=0.5) == said


@pytest.mark.parametrize(
    ("fields", "subject"),
    [
        ({"temperature": 9, **_WHOM}, "temperature"),
        ({"temprature": 1, **_WHOM}, "temprature"),
        ({"model": "m"}, "provider"),
        ({"provider": "local"}, "model"),
        ({"blocks": [{"type": "poem", "content": "x"}], **_WHOM}, "blocks.0.type"),
    ],
)
def test_the_field_that_is_wrong_is_named(fields: dict[str, Any], subject: str) -> None:
    """Whatever cannot be asked is one kind of error, with the field as its subject."""
    with pytest.raises(ConfigError) as refused:
        input_of("Why?", **fields)
    assert refused.value.subject == subject


def test_an_error_shows_nothing_of_what_was_given() -> None:
    """What was given may be a secret: the message is about its form alone."""
    with pytest.raises(ConfigError) as refused:
        input_of("Why?", seed="hunter2-hunter2", **_WHOM)
    assert "hunter2" not in str(refused.value.to_dict())


def test_a_folder_is_its_texts(tmp_path: Path) -> None:
    """Texts by relative path, sorted; nothing hidden, binary, linked, too large, or left there by tools."""
    for name in ("b/c.py", "a.py", ".git/config", "node_modules/x.js", ".env"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "image.png").write_bytes(b"\x89PNG\0")
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "huge.txt").write_bytes(b"x" * ((1 << 20) + 1))
    (tmp_path / "link.py").symlink_to(tmp_path / "a.py")
    assert list(file_map_of(tmp_path).items()) == [("a.py", "a.py"), ("b/c.py", "b/c.py")]
    assert block_of("file_map", tmp_path, "here").files == {"a.py": "a.py", "b/c.py": "b/c.py"}
    with pytest.raises(ConfigError, match="no folder"):
        file_map_of(tmp_path / "a.py")


def test_a_file_is_its_text(tmp_path: Path) -> None:
    """A block of a file holds what the file says; one that is no UTF-8 is refused by name."""
    (tmp_path / "style.md").write_text("Be brief.\r\n")
    assert block_of("style_guide", tmp_path / "style.md").content == "Be brief.\n"
    (tmp_path / "style.md").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="no UTF-8"):
        block_of("style_guide", tmp_path / "style.md")
