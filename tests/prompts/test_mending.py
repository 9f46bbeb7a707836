"""What would be changed to mend a prompt is shown block by block, and nothing is changed by looking."""

from __future__ import annotations

from xprim_nb.prompts.mending import mending_of
from xprim_nb.prompts.values import PromptBlock, ResolveInput


def _asked(*blocks: PromptBlock) -> ResolveInput:
    return ResolveInput(prompt="Why?", provider="openai", model="gpt-5.6", blocks=blocks)


def _block(name: str, content: str) -> PromptBlock:
    return PromptBlock(type="requirements", name=name, content=content)


def test_each_block_has_a_diff_of_its_own() -> None:
    """A line that goes is taken out of its block, one that nothing is left of goes, and what is new comes last."""
    asked = _asked(
        _block("rules", "Be brief.\nToday is 2026-11-28.\nBe kind."),
        _block("rules", "It is 10:15:00."),
        _block("style", "Plain words."),
    )
    found = mending_of(asked)
    assert found.before is asked
    assert found.diff.splitlines() == [
        *("--- rules", "+++ rules", "@@ -1,3 +1,2 @@"),
        *(" Be brief.", "-Today is 2026-11-28.", " Be kind."),
        *("--- rules", "+++ rules", "@@ -1 +0,0 @@", "-It is 10:15:00."),
        *("--- volatile facts", "+++ volatile facts", "@@ -0,0 +1,2 @@"),
        *("+Today is 2026-11-28.", "+It is 10:15:00."),
    ]


def test_only_what_was_chosen_is_mended_and_a_file_stays() -> None:
    """A finding that nobody chose changes nothing, and neither does one in a file: the file would say it again."""
    files = PromptBlock(type="file_map", files={"a.py": "# 2026-11-28\n"})
    asked = _asked(_block("rules", "Today is 2026-11-28."), files)
    assert mending_of(asked, ()).diff == ""
    only = _asked(files)
    assert [each.rule for each in mending_of(only).findings] == ["date"]
    assert mending_of(only).diff == ""
    assert mending_of(only).after == only


def test_a_diff_drives_no_terminal() -> None:
    """What moves a cursor is shown, not obeyed."""
    found = mending_of(_asked(_block("rules", "Today is 2026-11-28.\x1b[2J")))
    assert "\x1b" not in found.diff
    assert "-Today is 2026-11-28.\\x1b[2J" in found.diff
