"""What a document that comes from a URL is called. Pure; a name never leads out of its folder.

    1. The last part of the URL's path, unquoted; without one, the host.
    2. Characters that are no letter, digit, `.`, `_` or `-` become `-`; dots and dashes in front go.
    3. The spec's documents are spelled as the spec spells them (`readme.md` is `README.md`), and lie where it has them
       (`performance_metrics.json` below `benchmarks/`).
    4. Names that Windows reserves get a `_` in front; long ones are cut.
    5. Two URLs that want one name (case aside): the later one gets six digits of its URL's hash.

Source: spec 2 §Information bundle; spec 1 §References and paths.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from xprim_nb.cache.bundles.manifest import CacheInitRequest, SourceUrls
from xprim_nb.config import mask_url
from xprim_nb.errors import ConfigError
from xprim_nb.refs import is_windows_reserved

__all__ = [
    "BOOKKEEPING",
    "FOLDERS",
    "MODEL_CARD",
    "UPSTREAM",
    "PlannedDocument",
    "is_document",
    "matching",
    "plan_documents",
]

Kind: TypeAlias = Literal["model_card", "documentation", "examples", "papers"]

FOLDERS = ("metadata", "documentation", "examples", "benchmarks", "papers")
MODEL_CARD = "metadata/model_card.json"
# Our own records about the documents; they have no checksum among the documents'.
BOOKKEEPING = frozenset(
    {"metadata/cache_manifest.json", "metadata/integrity.sha256", "metadata/sources.json"}
)
# What is written beside a document that was edited here and changed there.
UPSTREAM = ".upstream"

_PROPER = {
    name.lower(): name
    for name in (
        "README.md", "technical_specs.md", "usage_guide.md", "changelog.md", "basic_usage.py",
        "advanced_examples.ipynb", "api_reference.json", "performance_metrics.json", "comparison_data.json",
    )
}  # fmt: skip
_BENCHMARKS = frozenset({"performance_metrics.json", "comparison_data.json"})
_PAPER_SUFFIXES = (".pdf", ".md")
# A file name has 255 bytes on every file system in use; `.upstream` and a temporary name must fit on top.
_MAX_NAME = 120
_OTHER = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class PlannedDocument:
    """One document to be fetched.

    Attributes:
        kind: Which of the request's lists names it.
        url: Where it comes from.
        path: Where it goes, below the bundle; a paper's suffix is known for sure only when it is here.
    """

    kind: Kind
    url: str
    path: str


def plan_documents(request: CacheInitRequest) -> tuple[PlannedDocument, ...]:
    """Every document of a request with its place, each URL once.

    Raises:
        ConfigError: A URL has a scheme that is not read, or cannot be used.
    """
    planned: dict[str, PlannedDocument] = {}
    taken: set[str] = {MODEL_CARD}
    for kind, url in _urls(request.source_urls):
        if url in planned:
            continue
        _require_usable(url)
        path = MODEL_CARD if kind == "model_card" else _free_path(kind, url, taken)
        taken.add(path.lower())
        planned[url] = PlannedDocument(kind, url, path)
    return tuple(planned.values())


def is_document(path: str) -> bool:
    """True for a path that may be a bundle's document: below one of its folders, not hidden, not our records."""
    parts = PurePosixPath(path).parts
    return (
        path == PurePosixPath(path).as_posix()
        and len(parts) > 1
        and parts[0] in FOLDERS
        and not any(part.startswith(".") for part in parts)
        and path not in BOOKKEEPING
        and not path.endswith(UPSTREAM)
        and ".json.damaged-" not in path
        and path.isprintable()
        and "\\" not in path
    )


def matching(required: str, paths: frozenset[str]) -> bool:
    """True when a required file is there: at its path, or under its bare name in any folder."""
    return required in paths or (
        "/" not in required and any(path.rpartition("/")[2] == required for path in paths)
    )


def _urls(urls: SourceUrls) -> Iterator[tuple[Kind, str]]:
    yield "model_card", urls.model_card
    for url in urls.documentation:
        yield "documentation", url
    for url in urls.examples:
        yield "examples", url
    for url in urls.papers or ():
        yield "papers", url


def _require_usable(url: str) -> None:
    secret = usable = False
    try:
        parts = urlsplit(url)
        secret = parts.username is not None or parts.password is not None
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        usable = usable or (parts.scheme == "file" and parts.netloc in ("", "localhost") and bool(parts.path))
    except ValueError:  # said below
        usable = False
    if secret:
        raise ConfigError(
            f"{mask_url(url)[:200]!r} holds credentials, which would be written down in the bundle.",
            subject="source_urls",
            hint="Name the URL without them; Config(headers=…) is sent to the registry's own origin.",
        )
    if not usable or not url.isprintable():
        raise ConfigError(
            f"{mask_url(url)[:200]!r} is no URL of a document.",
            subject="source_urls",
            hint="Use http://, https:// or file:///… URLs.",
        )


def _free_path(kind: Kind, url: str, taken: set[str]) -> str:
    name = _safe_name(kind, url)
    folder = "benchmarks" if name in _BENCHMARKS else kind
    path = f"{folder}/{name}"
    if path.lower() in taken:  # 5
        stem, dot, suffix = name.rpartition(".")
        mark = hashlib.sha256(url.encode()).hexdigest()[:6]
        path = f"{folder}/{stem}-{mark}.{suffix}" if dot else f"{folder}/{name}-{mark}"
    return path


def _safe_name(kind: Kind, url: str) -> str:
    parts = urlsplit(url)
    last = (
        unquote(parts.path).replace("\\", "/").rstrip("/").rpartition("/")[2] or parts.hostname or "document"
    )  # 1
    name = _OTHER.sub("-", last).lstrip(".-").rstrip(".-") or "document"  # 2
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix) > 10:
        stem, suffix = name, ""
    name = f"{stem[:_MAX_NAME]}.{suffix}" if suffix else stem[:_MAX_NAME]  # 4
    if name.lower().endswith(UPSTREAM):
        name += ".md"
    if kind == "papers" and not name.lower().endswith(_PAPER_SUFFIXES):
        name += ".pdf"
    name = _PROPER.get(name.lower(), name)  # 3
    return f"_{name}" if is_windows_reserved(name) else name
