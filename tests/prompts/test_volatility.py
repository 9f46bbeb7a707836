"""What changes from call to call is found where it costs, and nothing else is."""

from __future__ import annotations

import pytest

from xprim_nb.prompts.resolve import resolve_scaffold
from xprim_nb.prompts.scaffold import PromptScaffold
from xprim_nb.prompts.values import PromptBlock, ResolveInput
from xprim_nb.prompts.volatility import RULES, Finding, fixed, lint_volatility

PLANTED = [
    ("uuid", "The session is 123e4567-e89b-12d3-a456-426614174000.", "123e4567-e89b-12d3-a456-426614174000"),
    ("datetime", "Generated 2026-11-28T10:15:00.123Z for you.", "2026-11-28T10:15:00.123Z"),
    ("datetime", "It is 10:15:42 here.", "10:15:42"),
    ("date", "Today is 2026-11-28.", "2026-11-28"),
    ("date", "Today is November 28, 2026.", "November 28, 2026"),
    ("date", "Heute ist der 28.11.2026.", "28.11.2026"),
    ("date", "As of 28 Nov 2026 all is well.", "28 Nov 2026"),
    ("timestamp", "timestamp: 1795860000", "timestamp: 1795860000"),
    ("path", "Work in /home/anna/project/src.", "/home/anna/project/src."),
    ("path", r"Work in C:\Users\anna\project now.", r"C:\Users\anna\project"),
    ("path", "Scratch: /tmp/tmpab12cd", "/tmp/tmpab12cd"),
    ("address", "<Store object at 0x7f3a2b4c5d6e>", "at 0x7f3a2b4c5d6e"),
    ("process", "The server (pid 48113) answers.", "pid 48113"),
    ("port", "Ask http://127.0.0.1:49213/v1.", "127.0.0.1:49213"),
    ("id", "request_id: req-8f3k2j9d0a", "request_id: req-8f3k2j9d0a"),
    ("set-order", "Allowed: {'ruff', 'mypy', 'pytest'}.", "{'ruff', 'mypy', 'pytest'}"),
    ("float", "The mean is 0.30000000000000004.", "0.30000000000000004"),
    ("counter", "This is turn #17 of the talk.", "turn #17"),
    ("counter", "Tokens left: 120,000", "Tokens left: 120,000"),
]

CLEAN = [
    """# Style guide

1. Use Python 3.11 and ruff 0.14.2; lines hold 110 characters, functions 60 lines.
2. Step 1: read the file. Step 2: write the test. Step 3: make it pass.
3. Paths are relative: `src/app/main.py`, `./tests/test_main.py`, `docs/index.md`; requests go to `/v1/messages` and
   `/api/users/{id}`. A home page lies at https://example.org/home/index.html.
4. The server listens at localhost:8080; PostgreSQL at 127.0.0.1:5432.
5. Colours are `#1f2937` and `0xff8800`; a mask is `0xFF`. Pi is 3.14159, a tolerance 1e-9, a ratio 0.125.
6. A mapping is written `{'name': 'a', 'size': 3}`, a set is sorted before it is shown.
7. The build takes 12:30 minutes at most; the ratio of both is 16:9.
8. May I remind you: in March we release, in 2026 we maintain.
""",
    '''def request_identifier(session: Session, step: int = 0) -> str:
    """The id of a request; `uuid4` in production, a counter in tests."""
    return f"{session.request_id}-{step:04d}"
''',
    '{"type":"object","properties":{"run_id":{"type":"string"},"date":{"type":"string","format":"date-time"}}}',
    "Version 2.10.3 of the protocol; see RFC 8785, section 3.2.2.3, and issue #4138. Call 555-0123 for help.",
]


def _block(content: str, **more: object) -> PromptBlock:
    return PromptBlock.model_validate({"type": "style_guide", "content": content, **more})


@pytest.mark.parametrize(("rule", "text", "found"), PLANTED)
def test_what_is_planted_is_found_where_it_lies(rule: str, text: str, found: str) -> None:
    """Rule, line and column; once, whatever other rule would also have found it."""
    (finding,) = lint_volatility([_block(f"# Guide\n\nBe brief.\n  {text}\nBe exact.")])
    assert (finding.rule, finding.found, finding.line) == (rule, found, 4)
    assert finding.column == 3 + text.index(found)
    assert finding.label == "style_guide"
    assert finding.message
    assert "behind the last breakpoint" in finding.fix


def test_each_rule_has_been_planted() -> None:
    """A rule that nobody plants may find nothing at all."""
    assert {rule for rule, _, _ in PLANTED} == set(RULES)


@pytest.mark.parametrize("text", CLEAN)
def test_clean_texts_give_nothing(text: str) -> None:
    """Versions, colours, ports that are chosen, relative paths, schemas and code are no findings."""
    assert lint_volatility([_block(text)]) == ()


def test_what_is_meant_to_change_is_left_alone() -> None:
    """A context block and the turn may say what day it is; a style guide that says it changes daily may too."""
    today = "Today is 2026-11-28."
    assert lint_volatility([PromptBlock(type="context", content=today)]) == ()
    assert lint_volatility([_block(today, volatility=100)]) == ()
    assert len(lint_volatility([PromptBlock(type="context", content=today, volatility=5)])) == 1


def _asked(*blocks: PromptBlock, **more: object) -> ResolveInput:
    return ResolveInput.model_validate(
        {
            "prompt": "What happened on 2026-11-28?",
            "provider": "anthropic",
            "model": "claude-opus-5",
            "blocks": blocks,
            **more,
        }
    )


def test_what_is_sent_is_looked_through_up_to_the_last_breakpoint() -> None:
    """Tools and blocks that are kept; not what lies behind, neither the turn nor the conversation."""
    guide = _block("Be brief. " * 400 + "\nWritten 2026-11-28.")
    asked = _asked(
        guide,
        PromptBlock(type="context", content="It is 2026-11-28T10:00:00Z."),
        tools=[{"name": "read", "description": "Reads /home/anna/file.txt"}],
        messages=[{"role": "user", "content": "On 2026-11-27 it rained."}],
    )
    findings = lint_volatility(resolve_scaffold(asked).rendered)
    assert [(each.rule, each.label) for each in findings] == [("path", "tools"), ("date", "style_guide")]


def test_a_file_of_a_file_map_is_named_by_its_path() -> None:
    """The reader is told which file says it."""
    block = PromptBlock(type="file_map", files={"a.py": "x = 1\n", "b.py": "# at 0x7f3a2b4c5d6e\n"})
    (finding,) = lint_volatility([block])
    assert (finding.label, finding.line) == ("file_map/b.py", 1)
    assert fixed([block], [finding]) == (block,)


def test_the_fix_moves_the_lines_behind_everything_that_is_kept() -> None:
    """Afterwards nothing is found, nothing is lost, and what was stable is stable from call to call."""

    def blocks(day: str) -> list[PromptBlock]:
        return [
            _block(f"Be brief.\nToday is {day}.\nBe exact.", name="style"),
            PromptBlock(type="requirements", content=f"Work in /home/anna/project.\nWritten {day}."),
        ]

    def mended(day: str) -> tuple[PromptBlock, ...]:
        return fixed(blocks(day), lint_volatility(blocks(day)))

    found = lint_volatility(blocks("2026-11-28"))
    assert [(each.label, each.line) for each in found] == [
        ("style", 2),
        ("requirements", 1),
        ("requirements", 2),
    ]
    today, tomorrow = mended("2026-11-28"), mended("2026-11-29")
    assert lint_volatility(today) == ()
    assert today[0] == tomorrow[0]
    assert today[0].content == "Be brief.\nBe exact."
    assert len(today) == 2  # of the requirements nothing was left
    assert today[-1].content == "Today is 2026-11-28.\nWork in /home/anna/project.\nWritten 2026-11-28."
    assert today[-1].volatility == 100
    rendered = resolve_scaffold(_asked(*today)).rendered
    assert [each.label for each in rendered.segments] == ["style", "volatile facts", "turn"]


def test_only_what_was_chosen_is_moved() -> None:
    """A person who knows a finding to be constant leaves it out; with none, the blocks are the same."""
    blocks = [_block("Since 2019-05-01.\nToday is 2026-11-28.")]
    constant, today = lint_volatility(blocks)
    assert constant.found == "2019-05-01"
    changed = fixed(blocks, [today])
    assert changed[0].content == "Since 2019-05-01."
    assert fixed(blocks, []) == tuple(blocks)


def test_a_scaffold_is_looked_through_in_the_order_in_which_it_is_sent() -> None:
    """The index is that of the scaffold's blocks, so that its fix finds them."""
    asked = _asked(PromptBlock(type="requirements", content="Today is 2026-11-28."), _block("Be brief."))
    scaffold = PromptScaffold.of(asked)
    (finding,) = lint_volatility(scaffold)
    assert scaffold.blocks[finding.segment].type == "requirements"


def test_a_finding_is_harmless_to_show_and_plain_as_json() -> None:
    """What drives a terminal is shown, not obeyed."""
    (finding,) = lint_volatility([_block("\x1b[31mToday is 2026-11-28.")])
    assert isinstance(finding, Finding)
    assert "\x1b" not in str(finding)
    assert str(finding).startswith("style_guide:1:15: date: ")
    assert finding.document()["rule"] == "date"
