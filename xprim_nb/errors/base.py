"""The root of every error of this package: a message, what it is about, and the next thing to do."""

from __future__ import annotations

from typing import ClassVar

# The modules of the tree: what is defined elsewhere refines it.
_TREE = __name__.rpartition(".")[0] + "."

__all__ = [
    "XprimError",
]


class XprimError(Exception):
    """The root of the tree.

    Args:
        message: One sentence that says what happened.
        subject: The ref, digest, URL or path it happened to.
        hint: What the reader can do next; the class's default when empty.
    """

    exit_code: ClassVar[int] = 1
    default_hint: ClassVar[str] = "Run again with --verbose for the log."

    def __init__(self, message: str, *, subject: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.subject = subject
        self.hint = hint or self.default_hint

    @property
    def kind(self) -> type[XprimError]:
        """Its class in the tree above, which a reader is told: rooms refine some for ends of their own.

        A class that refines only the root goes by its own name.
        """
        for each in type(self).__mro__:
            if each.__module__.startswith(_TREE) and issubclass(each, XprimError) and each is not XprimError:
                return each
        return type(self)

    def to_dict(self) -> dict[str, str | int]:
        """The error as the CLI's JSON document shows it."""
        return {
            "type": self.kind.__name__,
            "message": self.message,
            "subject": self.subject,
            "hint": self.hint,
            "exit_code": self.exit_code,
        }
