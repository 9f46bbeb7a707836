"""Values of this room as rows that outlive their version: each says which schema it was written with.

A row is a mapping of JSON with `schema`, a number, and `value`. Whoever changes what a value is made of raises the
number and adds the step that makes the new from the old; a row of any earlier version is read, and a later one is not
guessed at.

Source: spec 6 §Resolve (stored rows carry a schema version and migrate).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from xprim_nb.errors import StorageError
from xprim_nb.prompts.scaffold import PromptScaffold
from xprim_nb.prompts.values import ResolveInput

__all__ = ["INPUTS", "SCAFFOLDS", "Row", "Rows", "Step"]

Row: TypeAlias = Mapping[str, Any]
Step: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
"""Makes a value of version n + 1 from one of version n; it may change what it is given."""

_Kept = TypeVar("_Kept", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Rows(Generic[_Kept]):
    """How values of one class are written and read.

    Args:
        model: The class.
        steps: Step n makes version n + 2 from n + 1: the first version is 1. Never edit a landed one.
    """

    model: type[_Kept]
    steps: Sequence[Step] = ()

    @property
    def version(self) -> int:
        """With which rows are written now."""
        return len(self.steps) + 1

    def row(self, value: _Kept) -> Row:
        """A value as it is stored. What is at its default is left out, so that a new field changes no old row."""
        return {"schema": self.version, "value": value.model_dump(mode="json", exclude_defaults=True)}

    def value(self, row: Row) -> _Kept:
        """The value of a row of this version or any before it.

        Raises:
            StorageError: A later version wrote it, or it is damaged.
        """
        version, value = row.get("schema"), row.get("value")
        if not isinstance(version, int) or version < 1 or not isinstance(value, Mapping):
            raise self._damaged(f"its schema is {version!r:.40}")
        if version > self.version:
            raise StorageError(
                f"A stored {self.model.__name__} was written by a newer version (schema {version}, known are up to "
                f"{self.version}).",
                subject=self.model.__name__,
                hint="Update xprim-nb.",
            )
        told = dict(value)
        try:
            for step in self.steps[version - 1 :]:
                told = step(told)
            return self.model.model_validate(told)
        except (ValidationError, LookupError, TypeError) as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, why: str) -> StorageError:
        return StorageError(
            f"A stored {self.model.__name__} cannot be read: {why}",
            subject=self.model.__name__,
            hint="What it was made from is still there: resolve it again.",
        )


INPUTS: Rows[ResolveInput] = Rows(ResolveInput)
SCAFFOLDS: Rows[PromptScaffold] = Rows(PromptScaffold)
