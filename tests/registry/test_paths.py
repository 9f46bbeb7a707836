"""A path that a manifest may name is the same harmless file on every system."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xprim_nb.errors import RegistryError
from xprim_nb.refs import is_windows_reserved
from xprim_nb.registry.paths import check_paths, fold

_GOOD = [
    "config.json",
    "a/b/c/model-00001-of-00002.safetensors",
    ".gitattributes",
    ".hidden/file",
    "..data",
    "a..b/c",
    "-rf",
    "~",
    "$HOME",
    "%TEMP%",
    "with space/in name",
    "模型/重み.bin",
    "é",
    "🙂.txt",
    "console",
    "com",
    "com10",
    "nul_",
    ".xprimx",
    "a/.xprim/file",
    "xprim",
    "a" * 255,
    "/".join(["a" * 200] * 5),
]
_PARTS = st.sampled_from(
    [
        "a",
        "A",
        "b",
        "é",
        "e\u0301",
        "ß",
        "ss",
        "..",
        ".",
        "",
        "con",
        "nul.x",
        "x.",
        "x ",
        ".xprim",
        ".XPRIM",
        "\u202e",
        "\\",
    ]
)
_NEARLY = st.lists(_PARTS, min_size=1, max_size=4).map("/".join)


def _check(*paths: str) -> None:
    check_paths(paths, ".xprim", where="manifest 0123")


def _refusal(*paths: str) -> str | None:
    try:
        _check(*paths)
    except RegistryError as error:
        return str(error)
    return None


@pytest.mark.parametrize("path", _GOOD, ids=lambda path: ascii(path)[:30])
def test_ordinary_paths_are_allowed(path: str) -> None:
    """Hidden files, other alphabets, spaces and long names are fine."""
    assert _refusal(path) is None


def test_ordinary_paths_are_allowed_together() -> None:
    """Paths that differ, share directories or begin alike do not clash."""
    assert _refusal(*_GOOD) is None
    assert _refusal("a", "ab", "a.b", "b/a", "b/ab", "b/c/a") is None
    assert _refusal() is None


def test_the_message_names_the_entry() -> None:
    """A refusal says where, which path, and why, and fits on a screen."""
    with pytest.raises(RegistryError, match=r"manifest 0123: the path '\.\./evil' has") as caught:
        _check("good", "../evil")
    assert caught.value.subject == "../evil"
    with pytest.raises(RegistryError) as long:
        _check("x" * 1_000_000)
    assert len(str(long.value)) < 400
    with pytest.raises(RegistryError) as hidden:
        _check("gpj.\u202eexe\x1b[2J")
    assert str(hidden.value).isprintable()


def test_both_of_two_clashing_paths_are_named() -> None:
    """Who has to mend the manifest reads which two entries clash."""
    with pytest.raises(RegistryError, match=r"'readme'.*'README'"):
        _check("README", "readme")
    with pytest.raises(RegistryError, match=r"'a/b'.*'A'"):
        _check("A", "a/b")


@pytest.mark.parametrize("name", [".xprim", ".mytool"])
def test_the_metadata_directory_is_the_applications(name: str) -> None:
    """Only the own metadata directory is kept free, in every spelling, and only at the top."""
    for path in (name, f"{name}/manifest.json", f"{name.upper()}/x", f"{name.title()}/x"):
        with pytest.raises(RegistryError, match="metadata"):
            check_paths([path], name, where="here")
    check_paths([f"a/{name}/x", f"{name}x", name[1:]], name, where="here")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A", "a"),
        ("É", "e\u0301"),
        ("ß", "SS"),
        ("\u212a", "k"),
        ("ﬁ", "FI"),
        ("mo\u200del", "moel"),
        ("Ⅷ", "ⅷ"),
    ],
)
def test_names_that_some_system_takes_for_one_fold_alike(one: str, other: str) -> None:
    """Case, composition and invisible characters make no difference to the key."""
    assert fold(one) == fold(other)


@given(st.text())
def test_folding_again_changes_nothing(text: str) -> None:
    """The key of a key is the key, whatever the text."""
    assert fold(fold(text)) == fold(text)


@given(st.lists(st.text() | _NEARLY, max_size=5))
@example(["a\u0345"])
def test_any_paths_are_refused_or_safe(paths: list[str]) -> None:
    """What is allowed stays inside, names different files everywhere, and can be created."""
    try:
        _check(*paths)
    except RegistryError as error:
        assert str(error)  # noqa: PT017  # both outcomes are right
        return
    base = Path("/srv/models/group/model/v1")
    for path in paths:
        inside = Path(os.path.normpath(base / path)).relative_to(base)
        assert inside.as_posix() == path
        assert inside.parts
        windows = PureWindowsPath(path)
        assert not windows.is_absolute()
        assert windows.drive == ""
        assert windows.parts == PurePosixPath(path).parts
        assert not any(is_windows_reserved(part) or part[-1] in ". " for part in inside.parts)
        assert not any(unicodedata.category(char) in ("Cc", "Cs") for char in path)
        assert fold(inside.parts[0]) != ".xprim"
    assert len({fold(path) for path in paths}) == len(paths)
    assert len({unicodedata.normalize("NFD", path.lower()) for path in paths}) == len(paths)
    for one in paths:
        assert not any(fold(other).startswith(fold(one) + "/") for other in paths)
