"""The documents of a bundle as they lie on disk: the request, the manifest, where each document came from.

`CacheManifest` and `CacheInitRequest` are the seed's, with a `schema_version`. What the seed has no room for (the
validators of the next conditional request, the request itself) lies beside them in `metadata/sources.json`.

Older documents are migrated on read; newer ones are refused, and left alone.

Source: spec 2 §Information bundle, §Access; seeds/000 §CacheManifest, §CacheInitRequest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import orjson
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from xprim_nb._files import read_plain, storage_errors
from xprim_nb._hashing import is_digest
from xprim_nb.errors import ConfigError, StorageError

__all__ = [
    "SCHEMA_VERSION",
    "BundleSources",
    "BundleStatus",
    "CacheInitRequest",
    "CacheManifest",
    "DocumentSource",
    "SourceUrls",
    "ValidationRules",
    "dumped",
    "parse_integrity",
    "read_document",
    "written_integrity",
]

SCHEMA_VERSION: Literal[1] = 1

BundleStatus: TypeAlias = Literal["valid", "stale", "corrupted", "incomplete"]
_Model = TypeVar("_Model", bound=BaseModel)

# A line of `sha256sum`: digest, a space, a space or an asterisk, the path.
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)\Z")


def _in_utc(value: object) -> object:
    """A time without a zone is the seed's `new Date().toISOString()` of somebody careless: it means UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:  # pydantic says what is wrong with it
            return value
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return value


Moment: TypeAlias = Annotated[AwareDatetime, BeforeValidator(_in_utc)]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, str_max_length=1 << 20, defer_build=True)


class CacheManifest(_Document):
    """What a bundle holds, and how it was when it was last looked at. Times are UTC.

    Attributes:
        schema_version: Of this document.
        model_id: `group/model`.
        version: The model's version that it is about; `unspecified` when nobody said.
        created_at: When the bundle was made.
        last_updated: When a document last changed, or upstream last said that none had.
        last_validated: When it was last checked.
        source_urls: Where its documents come from.
        file_checksums: SHA-256 by path below the bundle, `/`-separated.
        validation_status: `valid`, `stale`, `corrupted` or `incomplete`.
        dependencies: Models that this one needs (`group/model`, or a name elsewhere).
        size_bytes: Of all documents.
        expiry_date: After it the bundle is expired; None when it never is.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    model_id: str
    version: str
    created_at: Moment
    last_updated: Moment
    last_validated: Moment
    source_urls: tuple[str, ...] = ()
    file_checksums: dict[str, str] = Field(default_factory=dict)
    validation_status: BundleStatus = "incomplete"
    dependencies: tuple[str, ...] = ()
    size_bytes: int = Field(default=0, ge=0)
    expiry_date: Moment | None = None


class SourceUrls(_Document):
    """Where the documents of a bundle are to be had: `http(s)://` or `file://`."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    model_card: str = Field(
        description="URL of the model card: a JSON object, or a README with front matter."
    )
    documentation: tuple[str, ...] = Field(description="URLs of Markdown documents.")
    examples: tuple[str, ...] = Field(description="URLs of example scripts, notebooks and API references.")
    papers: tuple[str, ...] | None = Field(default=None, description="URLs of papers, as PDF or Markdown.")


class ValidationRules(_Document):
    """When a bundle is good enough."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    required_files: tuple[str, ...] = Field(
        description="Paths below the bundle (documentation/README.md), or bare names that may lie anywhere in it."
    )
    max_age_days: float = Field(gt=0, description="Older is stale, twice as old is expired.")
    checksum_validation: bool = Field(description="Compare every document with its recorded checksum.")


class CacheInitRequest(_Document):
    """A bundle to be made from URLs."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    model_id: str = Field(description='"group/model", or "group/model version".')
    source_urls: SourceUrls
    validation_rules: ValidationRules


class DocumentSource(_Document):
    """How one document came to be as it was written.

    Attributes:
        origin: `fetched` from `url`, `derived` from an installed model, or `unknown` when that record was lost.
        url: Where it was fetched; empty when derived.
        etag: Validator for the next conditional request; empty when the server gave none.
        last_modified: The same, as an HTTP date.
        sha256: Of the bytes that were written; a file with others was edited, or damaged.
        size_bytes: Of the file as it was written; None while that is not known.
        mtime_ns: When it was, in ns; other bytes with this time were written by nobody.
    """

    origin: Literal["fetched", "derived", "unknown"]
    sha256: str
    url: str = ""
    etag: str = ""
    last_modified: str = ""
    size_bytes: int | None = None
    mtime_ns: int | None = None


class BundleSources(_Document):
    """`metadata/sources.json`: what a repair or a refresh needs to know.

    Attributes:
        request: What was asked for; None for a bundle that was only derived.
        documents: By path.
        derived_from: The installed ref it was derived from; empty when it was not.
        derived_hash: That model's manifest hash then.
        failures: What could not be had last time, by URL, as sentences.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    request: CacheInitRequest | None = None
    documents: dict[str, DocumentSource] = Field(default_factory=dict)
    derived_from: str = ""
    derived_hash: str = ""
    failures: dict[str, str] = Field(default_factory=dict)


def read_document(kind: type[_Model], path: Path) -> _Model:
    """A document from disk, migrated if it is older.

    Raises:
        ConfigError: It is of a newer schema than this program knows; it is left alone.
        StorageError: It cannot be read, or is damaged.
    """
    with storage_errors(path, "reading"):
        raw = read_plain(path)
    try:
        found = orjson.loads(raw)
        if not isinstance(found, dict):
            raise ValueError("it is not an object")
        return kind.model_validate(_migrated(found, path))
    except (ValueError, ValidationError) as error:
        if isinstance(error, ConfigError):
            raise
        raise StorageError(
            f"{path} is damaged: {_first_line(error)}", subject=str(path), hint="Repair the bundle."
        ) from error


def _migrated(found: dict[str, Any], path: Path) -> dict[str, Any]:
    version = found.get("schema_version", 0)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ConfigError(
            f"{path} has schema version {version}; this program reads up to {SCHEMA_VERSION}.",
            subject=str(path),
            hint="Upgrade xprim-nb; the file was left as it is.",
        )
    if version == 0:  # the seed's own documents carry no version, and are otherwise what version 1 is
        return {**found, "schema_version": SCHEMA_VERSION}
    return found


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'document'}: {first['msg']}"
    return str(error).partition("\n")[0]


def dumped(document: BaseModel) -> bytes:
    """A document as it is written: indented, for people."""
    raw = document.model_dump(mode="json", exclude_none=True)
    return orjson.dumps(raw, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def written_integrity(checksums: Mapping[str, str]) -> bytes:
    r"""`integrity.sha256`, as `sha256sum -c` reads it from the bundle's directory.

    >>> written_integrity({"a/b.md": "0" * 64})[-9:]
    b'  a/b.md\n'
    """
    return "".join(f"{checksums[path]}  {path}\n" for path in sorted(checksums)).encode()


def parse_integrity(raw: bytes) -> dict[str, str]:
    """The checksums in an `integrity.sha256`; lines that are none are left out."""
    found = {}
    for line in raw.decode(errors="replace").splitlines():
        parts = _LINE.match(line)
        if parts is not None and is_digest(parts[1]):
            found[parts[2]] = parts[1]
    return found
