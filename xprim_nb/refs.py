"""How a model is named: `group/model version`, checked before any disk or network access.

Source: spec 1 §References and paths; faults G4 and G5 of the original.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache

from xprim_nb.errors import InvalidRefError

__all__ = ["RESERVED_GROUPS", "ModelRef", "is_windows_reserved", "listed_ref"]

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
# Between model and version only: "@a/b" and "a/b@" are slips.
_AT = re.compile(r"(?<=\S)@(?=\S)")

# Windows opens a device for these names, whatever their extension or case ("con.txt" too).
_WINDOWS_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³"}
)

# Names in the base directory that are ours: a group of this name would lie on top of them.
RESERVED_GROUPS = frozenset(
    {"cache", "info", "registry.json", "registry.json.lock"}
    | {f"state.sqlite{suffix}" for suffix in ("", "-journal", "-shm", "-wal", ".damaged")}
)


def is_windows_reserved(name: str) -> bool:
    """True when Windows would open a device instead of a file of this name."""
    return name.split(".", 1)[0].rstrip(" ").lower() in _WINDOWS_DEVICES


# A name that nothing speaks against, in one look, because a listing asks for thousands: what `_check_part` finds.
_PLAIN = re.compile(
    r"(?!(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|\Z))[a-z0-9](?:[a-z0-9._-]{0,126}[a-z0-9_-])?",
    re.ASCII | re.IGNORECASE,
).fullmatch


@lru_cache(maxsize=1 << 10)  # a listing of thousands names the same groups again and again
def _is_free(group: str) -> bool:
    return group.lower() not in RESERVED_GROUPS


def _are_plain(group: str, model: str, version: str) -> bool:
    """True when nothing speaks against the three; what does is told by those who look closer."""
    return bool(_PLAIN(group) and _is_free(group) and _PLAIN(model) and (not version or _PLAIN(version)))


def _check_part(part: str, role: str, ref: ModelRef) -> None:
    if _PLAIN(part):
        return
    whole = str(ref)
    if not _PART.match(part):
        # Shortened: the parts may come from a registry, which may name a model with a megabyte.
        raise InvalidRefError(
            f"The {role} {part[:200]!r} in {whole[:200]!r} is not a name.",
            subject=whole[:200],
            hint="A name is 1 to 128 letters, digits, '.', '_' or '-', and begins with a letter or digit.",
        )
    raise InvalidRefError(
        f"The {role} {part!r} in {whole!r} is not usable on Windows.",
        subject=whole,
        hint="Names like CON, NUL or COM1, and names that end in a dot, cannot be directories there.",
    )


@dataclass(frozen=True, slots=True, order=True)
class ModelRef:
    """A model, or one version of it.

    Attributes:
        group: Who it belongs to, `fast-whisper`.
        model: Its name in the group, `tiny`.
        version: `fp16`, an alias such as `latest`, or empty when the whole model is meant.

    Raises:
        InvalidRefError: A part is no name. A `ModelRef` that exists is safe to use as a path.

    >>> ref = ModelRef.parse("fast-whisper/tiny fp16")
    >>> ref.version, str(ref)
    ('fp16', 'fast-whisper/tiny fp16')
    """

    group: str
    model: str
    version: str = ""

    def __post_init__(self) -> None:
        if _are_plain(self.group, self.model, self.version):  # thousands are made for a listing
            return
        _check_part(self.group, "group", self)
        _check_part(self.model, "model", self)
        if self.version:
            _check_part(self.version, "version", self)
        if self.group.lower() in RESERVED_GROUPS:
            raise InvalidRefError(
                f"The group name {self.group!r} is kept for the cache itself.",
                subject=str(self),
                hint="Publish the model under another group name.",
            )

    @classmethod
    def parse(cls, text: str | ModelRef) -> ModelRef:
        """The reference that `"group/model"`, `"group/model version"` or `"group/model@version"` names.

        Raises:
            InvalidRefError: The text has another form, or a part is no name.
        """
        if isinstance(text, ModelRef):
            return text
        if not isinstance(text, str):
            raise InvalidRefError(
                f"A model reference is text, not {type(text).__name__}.", subject=repr(text)[:80]
            )
        words = _AT.sub(" ", text, count=1).split() if text.isprintable() else []
        if len(words) not in (1, 2) or words[0].count("/") != 1 or "@" in words[0]:
            raise InvalidRefError(f"{text[:200]!r} is not a model reference.", subject=text[:200])
        group, model = words[0].split("/")
        return cls(group, model, words[1] if len(words) == 2 else "")

    def require_version(self) -> ModelRef:
        """This reference, when it names a version.

        Raises:
            InvalidRefError: It names a whole model.
        """
        if self.version:
            return self
        raise InvalidRefError(
            f"{self} names no version.",
            subject=str(self),
            hint=f'Add one, as in "{self} latest"; `xprim models list --remote` shows the versions.',
        )

    @property
    def name(self) -> str:
        """`group/model`, without the version."""
        return f"{self.group}/{self.model}"

    def with_version(self, version: str) -> ModelRef:
        """The same model in another version."""
        return ModelRef(self.group, self.model, version)

    def __str__(self) -> str:
        return f"{self.group}/{self.model} {self.version}" if self.version else f"{self.group}/{self.model}"


# A frozen class sets each field by its name; the slots themselves do it at a third of the cost.
_SETTERS: tuple[Callable[[ModelRef, str], None], ...] = tuple(
    vars(ModelRef)[each.name].__set__ for each in fields(ModelRef)
)


def listed_ref(group: str, model: str, version: str) -> ModelRef:
    """What `ModelRef(group, model, version).require_version()` makes, for listings of thousands.

    Raises:
        InvalidRefError: A part is no name.
    """
    if not (version and _are_plain(group, model, version)):
        return ModelRef(group, model, version).require_version()
    made = object.__new__(ModelRef)
    set_group, set_model, set_version = _SETTERS
    set_group(made, group)
    set_model(made, model)
    set_version(made, version)
    return made
