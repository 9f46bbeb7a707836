r"""What in a prompt changes from call to call and should not: dates, ids, paths and the like in what a cache should keep.

A prefix is kept up to a byte; one date in a style guide has all that follows it written again each day. `lint_volatility`
looks through what lies before the last breakpoint, or, where nothing can be marked, through what is not said to change
each time anyway; `Finding.fix` says what to do, and `fixed` does it: the line moves into a block behind the last one.

Source: spec 6 §Caches; research/prompts §3 (8), §9 (3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from xprim_nb._text import clean
from xprim_nb.prompts.ordering import volatility_of
from xprim_nb.prompts.rendered import Rendered, Segment
from xprim_nb.prompts.scaffold import PromptScaffold
from xprim_nb.prompts.values import PromptBlock

__all__ = ["RULES", "Finding", "find_volatile", "fixed", "lint_volatility"]

# A block that changes in more of the calls than this is not meant to be kept.
_STABLE_BELOW: Final = 78
_EXCERPT: Final = 60

_MONTHS = (
    r"jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?"
)
_NOW = (
    r"(?:now|today|current(?:ly)?|generated|updated|as of|date|time|timestamp|created|started|rendered|built)"
)

RULES: Final[Mapping[str, tuple[re.Pattern[str], str]]] = {
    "uuid": (
        re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.I),
        "A UUID is another one in each run",
    ),
    "datetime": (
        re.compile(
            r"\b(?:19|20)\d\d-[01]\d-[0-3]\d[T ][0-2]\d:[0-5]\d(?::[0-5]\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?"
            r"|\b[0-2]\d:[0-5]\d:[0-5]\d(?:\.\d+)?\b"
        ),
        "A time of day changes with each call",
    ),
    "date": (
        re.compile(
            rf"\b(?:19|20)\d\d[-/][01]?\d[-/][0-3]?\d\b|\b[0-3]?\d\.[01]?\d\.(?:19|20)\d\d\b"
            rf"|\b(?:{_MONTHS})\.?\s+[0-3]?\d(?:st|nd|rd|th)?,?\s+(?:19|20)\d\d\b"
            rf"|\b[0-3]?\d\.?\s+(?:{_MONTHS})\.?,?\s+(?:19|20)\d\d\b",
            re.I,
        ),
        "A date changes with the day",
    ),
    "timestamp": (
        re.compile(rf"\b{_NOW}\b[^\n\d]{{0,20}}\b1[5-9]\d{{8}}(?:\d{{3}})?(?:\.\d+)?\b", re.I),
        "Seconds since 1970 change with each call",
    ),
    "path": (
        re.compile(
            r"(?<![\w./:<])/(?:home|Users|root|tmp|private/var|var/(?:folders|tmp|run)|mnt|workspace|content)/[^\s\"'`<>)\]]+"
            r"|\b[A-Za-z]:\\(?:[^\s\"'`<>|]+)"
        ),
        "An absolute path is another one on each machine",
    ),
    "address": (
        re.compile(r"\bat 0x[0-9a-f]{6,16}\b|\b0x[0-9a-f]{9,16}\b", re.I),
        "An address in memory is another one in each run",
    ),
    "process": (
        re.compile(r"\b(?:pid|process id|tid)\b\s*[:=#]?\s*\d{2,7}\b", re.I),
        "A process has another number in each run",
    ),
    "port": (
        re.compile(r"\b(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1\]):(?:3[2-9]|4\d|5\d|6[0-5])\d{3}\b"),
        "A port that the system chooses is another one in each run",
    ),
    "id": (
        re.compile(
            r"\b(?:session|request|run|trace|span|job|build|nonce|msg|req|call|thread|conv(?:ersation)?|chatcmpl|toolu)"
            r"(?:[ _-]?id)?[\"']?[ _:=-]{1,3}[\"']?(?=[A-Za-z0-9_-]*\d)(?=[A-Za-z0-9_-]*[A-Za-z])[A-Za-z0-9_-]{8,}\b",
            re.I,
        ),
        "An id of one run is another one in the next",
    ),
    "set-order": (
        re.compile(r"\{'[^'\n{}:]*'(?:, '[^'\n{}:]*')+\}|\b(?:frozenset|set)\(\{[^{}\n]*\}\)"),
        "Python writes a set in another order in each run",
    ),
    "float": (
        re.compile(r"(?<![\w.])-?\d+\.\d{12,}(?:e[+-]?\d+)?\b"),
        "The last digits of a computed number differ from machine to machine",
    ),
    "counter": (
        re.compile(
            r"\b(?:turn|step|iteration|attempt|retry|call|message|request)\s*(?:no\.?|number|#|:|=)\s*\d+(?:\s*(?:of|/)\s*\d+)?\b"
            r"|\b(?:tokens|budget|time|turns|attempts)\s+(?:left|remaining|used|so far)\s*[:=]?\s*[\d,.]+\b",
            re.I,
        ),
        "A counter changes with each call",
    ),
}
"""What each rule finds, and why it is volatile; an earlier rule's find is not a later one's too."""

_FIXES: Final[Mapping[str, str]] = {
    "path": "write it relative to the project, or move it",
    "set-order": "sort it before it is written, or move it",
    "float": "round it to the digits that matter, or move it",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something volatile where it costs.

    Attributes:
        rule: A name of `RULES`.
        segment: Index of the segment or block.
        label: What people call it.
        line: From 1.
        column: In characters, from 1.
        excerpt: What was found, and a little around it; harmless to show.
        found: Exactly what was found.
        message: Why it matters.
        fix: What to do.
    """

    rule: str
    segment: int
    label: str
    line: int
    column: int
    excerpt: str
    found: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.label}:{self.line}:{self.column}: {self.rule}: {self.message} ({self.excerpt}); {self.fix}."

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def find_volatile(text: str) -> Iterator[tuple[str, int, int]]:
    """Each find in a text: rule, beginning and end, in the order of the text."""
    taken: list[tuple[int, int]] = []
    found: list[tuple[str, int, int]] = []
    for rule, (pattern, _) in RULES.items():
        for match in pattern.finditer(text):
            begin, end = match.span()
            if all(end <= other or begin >= until for other, until in taken):
                taken.append((begin, end))
                found.append((rule, begin, end))
    yield from sorted(found, key=lambda each: each[1])


def lint_volatility(prompt: PromptScaffold | Rendered | Iterable[PromptBlock]) -> tuple[Finding, ...]:
    """What is volatile in the part of a prompt that should be kept.

    Args:
        prompt: A scaffold, or blocks in the order in which they are sent: those are looked through that are not said to
            change nearly each time. Or what is sent: what lies before the last breakpoint, or, with none, whatever is
            neither history nor turn and does not change nearly each time.
    """
    if isinstance(prompt, Rendered):
        texts = _kept_segments(prompt.segments)
    else:
        blocks = prompt.blocks if isinstance(prompt, PromptScaffold) else tuple(prompt)
        texts = [
            (index, label, text)
            for index, block in enumerate(blocks)
            if volatility_of(block) < _STABLE_BELOW
            for label, text in _texts(block)
        ]
    return tuple(finding for index, label, text in texts for finding in _findings(index, label, text))


def fixed(blocks: Sequence[PromptBlock], findings: Iterable[Finding]) -> tuple[PromptBlock, ...]:
    """The blocks with what was found taken out of them: each such line moves into a context block behind them.

    What lies in a file map is left where it is: it is the file that says it. Findings are those of `lint_volatility` for
    these very blocks. Whether a text still reads without its line, its writer has to look.

    Args:
        blocks: As they were looked through.
        findings: What to mend; all of them, or those that a person chose.
    """
    lines: dict[int, set[int]] = {}
    for each in findings:
        if blocks[each.segment].files is None:
            lines.setdefault(each.segment, set()).add(each.line)
    if not lines:
        return tuple(blocks)
    kept, moved = list(blocks), []
    for index, numbers in sorted(lines.items()):
        block = blocks[index]
        said = block.content.split("\n")
        moved += [said[number - 1].strip() for number in sorted(numbers)]
        rest = [line for number, line in enumerate(said, 1) if number not in numbers]
        kept[index] = block.model_copy(update={"content": "\n".join(rest)})
    facts = PromptBlock(type="context", name="volatile facts", content="\n".join(moved), volatility=100)
    return (*[each for each in kept if each.files is not None or each.content.strip()], facts)


def _kept_segments(segments: Sequence[Segment]) -> list[tuple[int, str, str]]:
    marks = [
        index
        for index, each in enumerate(segments)
        if each.breakpoint and each.kind not in {"message", "turn"}
    ]
    end = marks[-1] + 1 if marks else len(segments)
    return [
        (index, each.label, each.text)
        for index, each in enumerate(segments[:end])
        if each.kind not in {"message", "turn"} and (marks or each.volatility < _STABLE_BELOW)
    ]


def _texts(block: PromptBlock) -> Iterator[tuple[str, str]]:
    name = block.name or block.type
    if block.files is None:
        yield name, block.content
        return
    for path, text in sorted(block.files.items()):
        yield f"{name}/{path}", text


def _findings(index: int, label: str, text: str) -> Iterator[Finding]:
    for rule, begin, end in find_volatile(text):
        line_begin = text.rfind("\n", 0, begin) + 1
        line_end = text.find("\n", begin)
        line_end = len(text) if line_end < 0 else line_end
        around = (_EXCERPT - min(_EXCERPT, end - begin)) // 2
        yield Finding(
            rule=rule,
            segment=index,
            label=label,
            line=text.count("\n", 0, begin) + 1,
            column=begin - line_begin + 1,
            excerpt=clean(text[max(line_begin, begin - around) : min(line_end, end + around)]).strip(),
            found=text[begin:end],
            message=f"{RULES[rule][1]}, and all that follows is written to the cache again",
            fix=f"{_FIXES.get(rule, 'move it')} behind the last breakpoint",
        )
