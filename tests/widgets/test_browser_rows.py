"""The browser's rows: made of a registry's list and of what is installed, and put into columns."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from xprim_nb._hashing import Digest
from xprim_nb.cache.upkeep.values import Inode
from xprim_nb.cache.values import InstalledModel
from xprim_nb.refs import ModelRef
from xprim_nb.registry.index import RemoteModel
from xprim_widgets._browser_rows import Catalogue, frame_of, removal_text, rows_of, word

_HOSTILE = "<b onclick='x'>\x1b[31m\u202egnp" + "A" * 10_000


def _remote(
    ref: str, digest: str = "a", size: int | None = 100, alias: str | None = None, **metadata: Any
) -> RemoteModel:
    return RemoteModel(ModelRef.parse(ref), Digest(digest * 64), size, alias, metadata)


def _installed(ref: str, digest: str = "a", size: int = 100) -> InstalledModel:
    return InstalledModel(ModelRef.parse(ref), digest * 64, size, 1, datetime.now(UTC), Path("/models"))


def test_listed_and_installed_are_one_list() -> None:
    """A version that is listed, installed, or both has one row, in the order of the refs."""
    rows = rows_of(
        [_remote("b/b v1"), _remote("a/a v1", "b"), _remote("a/a v2")],
        [_installed("a/a v1", "a"), _installed("c/c v1"), _installed("b/b v1")],
    )
    assert [(str(row.ref), row.status) for row in rows] == [
        ("a/a v1", "update_available"),
        ("a/a v2", "available"),
        ("b/b v1", "installed"),
        ("c/c v1", "installed"),
    ]


def test_a_size_that_the_registry_does_not_say() -> None:
    """It is the installed one's, where there is one, and unknown otherwise."""
    rows = rows_of(
        [_remote("a/a v1", size=None), _remote("a/a v2", size=None)], [_installed("a/a v1", size=7)]
    )
    assert [row.size_bytes for row in rows] == [7, None]
    assert Catalogue.of(rows).columns["sizes"] == [7, -1]


@pytest.mark.parametrize(
    ("ref", "metadata", "expected"),
    [
        ("a/a v1", {"license": "mit", "quantization": "fp16"}, ("fp16", "mit")),
        ("a/a v1", {"licence": "GPL-3.0-only", "dtype": "bfloat16"}, ("bfloat16", "GPL-3.0-only")),
        ("a/a q4_k_m", {"license": ["mit"]}, ("q4_k_m", "")),
        ("a/a fp16", {"license": None, "quantization": {}}, ("fp16", "")),
        ("a/a v1", {"quantization": 8}, ("8", "")),
        ("a/a quick", {}, ("", "")),
    ],
)
def test_quantisation_and_licence(ref: str, metadata: Mapping[str, Any], expected: tuple[str, str]) -> None:
    """They are what the metadata says under one of the usual names, or what the version is named after."""
    (row,) = rows_of([_remote(ref, **metadata)], [])
    assert (row.quantisation, row.licence) == expected


def test_an_alias_has_the_quantisation_of_what_it_names() -> None:
    """`latest` of `q8` is as `q8` is."""
    (row,) = rows_of([_remote("a/a latest", alias="q8")], [])
    assert (row.quantisation, row.alias_of) == ("q8", "q8")


def test_hostile_words_are_short_and_harmless() -> None:
    """Ten kilobytes of markup with escapes become one short line that turns nothing around."""
    shown = word(_HOSTILE)
    assert len(shown) <= 48
    assert shown.startswith("<b onclick='x'>\\x1b[31m\\u202egnp")
    assert word("a\nb\t c") == "a b c"


def test_the_catalogue_is_columns() -> None:
    """What does not change is columns of equal length; what does names its row by number."""
    rows = rows_of(
        [
            _remote("a/a latest", alias="v1", license="mit"),
            _remote("a/a v1", "b", license="mit"),
            _remote("b/b v1"),
        ],
        [_installed("a/a v1", "a"), _installed("b/b v1")],
    )
    made = Catalogue.of(rows)
    assert made.columns == {
        "names": ["a/a", "a/a", "b/b"],
        "versions": ["latest", "v1", "v1"],
        "sizes": [100, 100, 100],
        "quantisations": {"words": [""], "codes": [0, 0, 0]},
        "licences": {"words": ["mit", ""], "codes": [0, 0, 1]},
        "aliases": [[0, "v1"]],
    }
    assert made.marks == {"installed": [1, 2], "update": [1]}
    assert made.number["a/a v1"] == 1


def test_the_frame_has_typed_columns() -> None:
    """Every row is in it, sizes are whole numbers of bytes, and what is not known is NA."""
    rows = rows_of(
        [_remote("a/a v1", size=None), _remote("b/b v1", "b", size=900, license="mit")],
        [_installed("c/c v1")],
    )
    frame = frame_of(rows, {"b" * 64: 300}, disk_free=500, memory_free=2_000)
    assert list(frame["ref"]) == ["a/a v1", "b/b v1", "c/c v1"]
    assert str(frame["size_bytes"].dtype) == "Int64"
    assert frame["size_bytes"].isna().tolist() == [True, False, False]
    assert frame["bytes_to_fetch"].tolist()[1:] == [300, 0]
    assert frame["fits_disk"].tolist() == [False, False, True]
    assert frame["fits_memory"].tolist() == [False, True, True]
    assert frame["status"].tolist() == ["available", "available", "installed"]
    assert frame_of([], {}, 0, 0).dtypes.to_dict() == frame.dtypes.to_dict()


def test_a_removal_says_what_it_frees() -> None:
    """Bytes that have a name elsewhere are not freed, and whoever needs the model is named."""
    ref = ModelRef.parse("a/a v1")
    inodes = [Inode(1, 1, 2048, 1, 1), Inode(1, 2, 1024, 2, 1), Inode(1, 3, 1024, 2, 2)]
    said = removal_text(ref, inodes, [ModelRef("l", f"lora{number}", "v1") for number in range(5)])
    assert said.startswith(
        "Remove a/a v1? It frees 3.0 KB. 1.0 KB are shared with files elsewhere, and stay."
    )
    assert said.endswith("But it is needed by l/lora0 v1, l/lora1 v1, l/lora2 v1 and 2 more.")
    assert "needed" not in removal_text(ref, inodes, [])


@pytest.mark.alone
def test_ten_thousand_rows_are_soon_made() -> None:
    """Twenty thousand versions, half of them installed, become columns in well under the time of a blink or two."""
    listing = [_remote(f"g{number % 50}/m{number} v1", license="mit") for number in range(10_000)]
    installed = [_installed(f"g{number % 50}/m{number} v{1 + number % 2}") for number in range(10_000)]
    began = time.perf_counter()
    made = Catalogue.of(rows_of(listing, installed))
    took_s = time.perf_counter() - began
    assert len(made.rows) == 15_000
    assert len(json.dumps(made.columns)) < 1_000_000
    assert took_s < 2
