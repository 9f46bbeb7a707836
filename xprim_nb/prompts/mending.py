"""What a linter found, and what would be changed to mend it: the prompt as it is, as it would be, and how they differ. Pure.

Source: spec 6 §Caches (`lint_volatility` … "and offers the fix").
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xprim_nb._text import clean
from xprim_nb.prompts.values import PromptBlock, ResolveInput
from xprim_nb.prompts.volatility import Finding, fixed, lint_volatility

__all__ = ["Mending", "mending_of"]


@dataclass(frozen=True, slots=True)
class Mending:
    """A prompt and what could be made of it; nothing was changed.

    Attributes:
        before: As it is, without secrets.
        after: With each line that is volatile moved behind what is not.
        findings: What is volatile; what lies in a file map stays, for it is the file that says it.
    """

    before: ResolveInput
    after: ResolveInput
    findings: tuple[Finding, ...]

    @property
    def diff(self) -> str:
        """How each block would differ, as a unified diff that drives no terminal; empty where none would."""
        lines = [
            line
            for was, now in _pairs(self.before.blocks, self.after.blocks)
            for line in difflib.unified_diff(
                _lines(was), _lines(now), _label(was or now), _label(now or was), n=1, lineterm=""
            )
        ]
        return clean("\n".join(lines))


def mending_of(asked: ResolveInput, findings: Sequence[Finding] | None = None) -> Mending:
    """What would be changed.

    Args:
        asked: Without secrets.
        findings: Those to mend; all that there are when None.
    """
    found = lint_volatility(asked.blocks) if findings is None else tuple(findings)
    after = asked.model_copy(update={"blocks": fixed(asked.blocks, found)})
    return Mending(asked, after, found)


def _pairs(
    before: Sequence[PromptBlock], after: Sequence[PromptBlock]
) -> Iterator[tuple[PromptBlock | None, PromptBlock | None]]:
    """Each block and what becomes of it: blocks stay in their order, lose lines or go, and new ones follow."""
    left = list(after)
    for block in before:
        stays = bool(left) and (left[0].type, left[0].name) == (block.type, block.name)
        yield block, left.pop(0) if stays and set(_lines(left[0])) <= set(_lines(block)) else None
    yield from ((None, block) for block in left)


def _label(block: PromptBlock | None) -> str:
    assert block is not None
    return block.name or block.type


def _lines(block: PromptBlock | None) -> list[str]:
    if block is None:
        return []
    if block.files is None:
        return block.content.split("\n")
    return [line for path, text in sorted(block.files.items()) for line in (path, *text.split("\n"))]
