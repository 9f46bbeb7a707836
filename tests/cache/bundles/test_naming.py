"""Names from URLs: safe, stable, and the spec's own where the spec has one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprim_nb.cache.bundles.manifest import CacheInitRequest
from xprim_nb.cache.bundles.naming import is_document, matching, plan_documents
from xprim_nb.errors import ConfigError


def _paths(documentation: list[str], papers: tuple[str, ...] = ()) -> list[str]:
    request = CacheInitRequest.model_validate(
        {
            "model_id": "demo/tiny",
            "source_urls": {
                "model_card": "https://example.org/card",
                "documentation": documentation,
                "examples": [],
                "papers": papers,
            },
            "validation_rules": {"required_files": [], "max_age_days": 1, "checksum_validation": True},
        }
    )
    return [each.path for each in plan_documents(request)[1:]]


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://example.org/a/readme.MD", "documentation/README.md"),
        ("https://example.org/a/..%2f..%2f..%2fetc%2fpasswd", "documentation/passwd"),
        ("https://example.org/..", "documentation/document"),
        ("https://example.org", "documentation/example.org"),
        ("https://example.org/con.md?x=1", "documentation/_con.md"),
        ("https://example.org/%E2%80%AEevil%0a.md", "documentation/evil-.md"),
        ("https://example.org/.hidden", "documentation/hidden"),
        ("https://example.org/C:%5Cwindows%5Csystem.ini", "documentation/system.ini"),
        ("https://example.org/notes.upstream", "documentation/notes.upstream.md"),
        ("https://example.org/Performance_Metrics.json", "benchmarks/performance_metrics.json"),
        ("file:///tmp/some%20notes.md", "documentation/some-notes.md"),
    ],
)
def test_a_url_names_its_document(url: str, path: str) -> None:
    """The last part of the URL becomes a name that leads nowhere else."""
    assert _paths([url]) == [path]


def test_equal_names_are_told_apart() -> None:
    """Two URLs with one name, case aside, get two places; the same URL twice gets one."""
    first, second, third = "https://a.org/x.md", "https://b.org/X.md", "https://a.org/x.md"
    paths = _paths([first, second, third])
    assert paths[0] == "documentation/x.md"
    assert len(paths) == len({path.lower() for path in paths}) == 2


def test_papers_are_pdf_or_markdown() -> None:
    """A paper without a suffix is called a PDF until it is here."""
    assert _paths([], ("https://arxiv.org/pdf/2307.09288", "https://a.org/notes.md")) == [
        "papers/2307.09288.pdf",
        "papers/notes.md",
    ]


@pytest.mark.parametrize(
    "url", ["ftp://a.org/x", "x.md", "https://", "file://host/x", "https://[bad", "file://"]
)
def test_other_urls_are_refused(url: str) -> None:
    """What cannot be fetched is refused before anything is touched."""
    with pytest.raises(ConfigError):
        _paths([url])


def test_credentials_in_a_url_are_refused() -> None:
    """A password would be written down in the bundle: it is refused, and not repeated."""
    with pytest.raises(ConfigError) as caught:
        _paths(["https://ann:hush@a.org/x.md"])
    assert "hush" not in f"{caught.value} {caught.value.hint}"


@given(st.text(max_size=400))
def test_no_name_leads_out(tail: str) -> None:
    """Whatever a URL ends in, its document lies in its folder, is visible, and is a document."""
    try:
        paths = _paths([f"https://example.org/{tail}"])
    except ConfigError:
        return
    folder, slash, name = paths[0].partition("/")
    assert folder in ("documentation", "benchmarks")
    assert slash
    assert "/" not in name
    assert len(name) < 150
    assert is_document(paths[0])


def test_bookkeeping_is_no_document() -> None:
    """Our own records, hidden files and upstream's versions are not listed as documents."""
    assert is_document("metadata/model_card.json")
    for path in (
        "metadata/cache_manifest.json",
        "metadata/integrity.sha256",
        "metadata/sources.json",
        "metadata/cache_manifest.json.damaged-1",
        "documentation/README.md.upstream",
        "documentation/.README.md.tmp",
        "README.md",
        "elsewhere/README.md",
        "documentation/../metadata/x.json",
    ):
        assert not is_document(path), path


def test_required_files_match_by_path_or_name() -> None:
    """A required file is a path, or a bare name in any folder."""
    there = frozenset({"documentation/README.md"})
    assert matching("README.md", there)
    assert matching("documentation/README.md", there)
    assert not matching("examples/README.md", there)
