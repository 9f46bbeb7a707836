"""A `ModelRef` that exists is safe to use as a path; everything else is an InvalidRefError."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xprim_nb.errors import InvalidRefError
from xprim_nb.refs import RESERVED_GROUPS, ModelRef, is_windows_reserved, listed_ref
from xprim_nb.testing.hostile_names import HOSTILE_REFS

_LETTERS = "ABCXYZabcxyz0189"
_NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True).filter(
    lambda name: (
        not is_windows_reserved(name) and not name.endswith(".") and name.lower() not in RESERVED_GROUPS
    )
)
# Arbitrary text finds little; text made of what references are made of comes close to the border.
_NEARLY = st.text(
    alphabet=[*_LETTERS, "/", " ", "@", ".", "-", "_", "\\", ":", "\0", "\n", "\u00a0", "\u202e"]
)
_TROUBLED = st.lists(
    st.sampled_from(["..", ".", "/", " ", "@", "con", "a", "nul.x", "cache", "%2e", "\\"])
).map("".join)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("group/model", ("group", "model", "")),
        ("group/model version", ("group", "model", "version")),
        ("group/model@version", ("group", "model", "version")),
        ("  group/model   v1.0-rc_2 ", ("group", "model", "v1.0-rc_2")),
        ("fast-whisper/tiny fp16", ("fast-whisper", "tiny", "fp16")),
        ("0/1 2", ("0", "1", "2")),
        ("a/console nullable", ("a", "console", "nullable")),
        ("a/" + "b" * 128, ("a", "b" * 128, "")),
    ],
)
def test_three_forms_are_understood(text: str, parts: tuple[str, str, str]) -> None:
    """A model, a version after a space, and a version after an '@' are read."""
    ref = ModelRef.parse(text)
    assert (ref.group, ref.model, ref.version) == parts
    assert ref.name == f"{parts[0]}/{parts[1]}"


@pytest.mark.parametrize("text", HOSTILE_REFS, ids=lambda text: ascii(text)[:40])
def test_hostile_references_are_refused(text: str) -> None:
    """Each hostile reference is an InvalidRefError that names it and says what to write."""
    with pytest.raises(InvalidRefError) as caught:
        ModelRef.parse(text)
    assert caught.value.hint
    assert caught.value.exit_code == 2
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("thing", [None, 7, b"group/model", ("group", "model"), ["group/model"]])
def test_what_is_no_text_is_refused(thing: object) -> None:
    """A reference of another type is an InvalidRefError, not a TypeError."""
    with pytest.raises(InvalidRefError, match=type(thing).__name__):
        ModelRef.parse(thing)  # type: ignore[arg-type]  # the mistake is the test


def test_a_reference_is_taken_as_it_is() -> None:
    """Parsing a reference gives the same one."""
    ref = ModelRef("a", "b", "c")
    assert ModelRef.parse(ref) is ref


def test_parts_are_checked_without_parsing_too() -> None:
    """A reference cannot be built around the checks, nor by another version."""
    for parts in (
        ("..", "b", ""),
        ("a", "../b", "c"),
        ("a", "b", ".."),
        ("cache", "b", "c"),
        ("a", "b", "v\n"),
    ):
        with pytest.raises(InvalidRefError):
            ModelRef(*parts)
    with pytest.raises(InvalidRefError):
        ModelRef("a", "b").with_version("../c")
    assert ModelRef("a", "b", "x").with_version("y") == ModelRef("a", "b", "y")


def test_a_version_can_be_required() -> None:
    """Where one version is meant, a whole model is refused with the way to write it."""
    assert ModelRef("a", "b", "c").require_version().version == "c"
    with pytest.raises(InvalidRefError) as caught:
        ModelRef("a", "b").require_version()
    assert "a/b latest" in caught.value.hint


def test_references_are_values() -> None:
    """Equal references are equal and hash alike, they sort by group, model, version, and do not change."""
    refs = [ModelRef("b", "a", "1"), ModelRef("a", "b", "2"), ModelRef("a", "b", "1"), ModelRef("a", "a")]
    assert [str(ref) for ref in sorted(refs)] == ["a/a", "a/b 1", "a/b 2", "b/a 1"]
    assert len({*refs, ModelRef("a", "a")}) == 4
    with pytest.raises(AttributeError):
        refs[0].group = "x"  # type: ignore[misc]  # the mistake is the test


@pytest.mark.parametrize(
    "name", ["con", "CON", "nul.txt", "com1", "LPT9.tar.gz", "aux ", "COM¹", "conout$", "prn .x"]
)
def test_windows_devices_are_known(name: str) -> None:
    """Names that Windows opens as devices are recognised in any case and with any extension."""
    assert is_windows_reserved(name)


@pytest.mark.parametrize("name", ["console", "com", "com10", "lpt", "x.con", "nul_", "", "acon"])
def test_ordinary_names_are_no_devices(name: str) -> None:
    """Names that only look like devices are usable."""
    assert not is_windows_reserved(name)


def test_a_long_reference_does_not_make_a_long_message() -> None:
    """A megabyte of text is refused in a sentence that a person can read."""
    for text in ("a" * 1_000_000, "a/" + "b" * 1_000_000):
        with pytest.raises(InvalidRefError) as caught:
            ModelRef.parse(text)
        assert len(str(caught.value)) + len(caught.value.subject) < 1000


@given(_NAMES, _NAMES, _NAMES | st.just(""))
def test_what_is_written_is_read_again(group: str, model: str, version: str) -> None:
    """Every reference survives being written and parsed."""
    ref = ModelRef(group, model, version)
    assert ModelRef.parse(str(ref)) == ref
    if version:
        assert ModelRef.parse(f"{group}/{model}@{version}") == ref


@given(st.text() | _NEARLY | _TROUBLED)
@example("a/b\u2028c")
def test_any_text_is_refused_or_safe(text: str) -> None:
    """Whatever the text, the outcome is InvalidRefError or a path that stays inside, on every system."""
    try:
        ref = ModelRef.parse(text)
    except InvalidRefError as error:
        assert error.hint  # noqa: PT017  # both outcomes are right; this is what one of them must have
        return
    parts = [part for part in (ref.group, ref.model, ref.version) if part]
    base = Path("/srv/models")
    joined = os.path.normpath(base.joinpath(*parts))
    assert Path(joined).relative_to(base).parts == tuple(parts)
    assert PurePosixPath(*parts).parts == PureWindowsPath(*parts).parts == tuple(parts)
    assert not any(is_windows_reserved(part) or part[-1] in ". " for part in parts)
    assert str(ref).isascii()
    assert ModelRef.parse(str(ref)) == ref


_PART_TEXT = st.text(st.sampled_from("aZ0._-$ \n¹ſK"), max_size=6) | st.sampled_from(
    [
        "con",
        "CON.txt",
        "nul",
        "com1",
        "com10",
        "lpt¹",
        "aux.",
        "a" * 128,
        "a" * 129,
        "conin$",
        "auxiliary",
        "a\n",
    ]
)


@given(_PART_TEXT, _PART_TEXT, _PART_TEXT)
def test_a_ref_of_a_listing_is_any_other(group: str, model: str, version: str) -> None:
    """It is the same one, or the same refusal; what stands in one pattern is what the single checks say."""
    usable = group.lower() not in RESERVED_GROUPS and all(
        re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", part)
        and not part.endswith(".")
        and not is_windows_reserved(part)
        for part in (group, model, version)
    )
    if usable:
        assert listed_ref(group, model, version) == ModelRef(group, model, version)
        return
    with pytest.raises(InvalidRefError) as found:
        listed_ref(group, model, version)
    with pytest.raises(InvalidRefError) as expected:
        ModelRef(group, model, version).require_version()
    assert str(found.value) == str(expected.value)
