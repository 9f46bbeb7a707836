"""`%xprim doctor`: what pulls and panels stand on, one line for each part, and what to do about it.

    look        each part's own probe, in a thread of its own; what it raises is a line too
    wait        as long as a person waits for an answer: what has not answered by then is a line that says so
    tell        a frozen value, as text and as HTML

Source: spec 3 §Magics ("`%xprim doctor` reports …"); research notebook §4, §9.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from xprim_nb._text import clean, format_seconds
from xprim_nb._threads import DaemonThreads
from xprim_nb.errors import XprimError
from xprim_nb.magics import doctor_kernel, doctor_machine, doctor_registry
from xprim_nb.magics.probing import Probe, Said, Verdict
from xprim_nb.magics.wording import in_notebook

if TYPE_CHECKING:
    from xprim_nb.magics.extension import Extension
    from xprim_nb.toolkit import Toolkit

__all__ = ["Diagnosis", "Finding", "examine", "found_by"]

# All of it answers within three seconds: the rest is for telling it.
_PATIENCE_S = 2.6
_COLOURS: Mapping[Verdict, str] = {
    "ok": "var(--jp-success-color1,#388e3c)",
    "look at this": "var(--jp-warn-color1,#f57c00)",
    "broken": "var(--jp-error-color1,#d32f2f)",
}
_MARKS: Mapping[Verdict, str] = {"ok": "✓", "look at this": "!", "broken": "✗"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about one part.

    Attributes:
        subject: Which part.
        verdict: `ok`, `look at this` or `broken`.
        text: What is the case.
        advice: What to do; empty when nothing is to be done.
    """

    subject: str
    verdict: Verdict
    text: str
    advice: str = ""

    def __str__(self) -> str:
        advice = f" → {self.advice}" if self.advice else ""
        return clean(in_notebook(f"{_MARKS[self.verdict]} {self.subject}: {self.text}{advice}"))


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, in an order that a reader can follow.

    Attributes:
        findings: One or more for each part.
        seconds: How long looking took.
    """

    findings: tuple[Finding, ...]
    seconds: float

    @property
    def verdict(self) -> Verdict:
        """The worst of them."""
        found = {each.verdict for each in self.findings}
        return "broken" if "broken" in found else "look at this" if "look at this" in found else "ok"

    def of(self, subject: str) -> Finding:
        """The finding about one part.

        Raises:
            KeyError: Nobody looked at it.
        """
        for each in self.findings:
            if each.subject == subject:
                return each
        raise KeyError(subject)

    def __str__(self) -> str:
        broken = sum(each.verdict == "broken" for each in self.findings)
        odd = sum(each.verdict == "look at this" for each in self.findings)
        told = f"{broken} broken, {odd} to look at" if broken or odd else "everything is as it should be"
        return f"{len(self.findings)} things looked at in {format_seconds(self.seconds)}: {told}"

    def __repr__(self) -> str:
        width = max((len(each.subject) for each in self.findings), default=0) + 2
        lines = []
        for each in self.findings:
            lines.append(f"{_MARKS[each.verdict]} {each.subject:<{width}}{each.verdict}: {each.text}")
            lines += [" " * (width + 2) + f"→ {each.advice}"] if each.advice else []
        return clean(in_notebook("\n".join([*lines, str(self)])))

    def _repr_html_(self) -> str:
        cell = "text-align:left;vertical-align:top;white-space:pre-wrap;overflow-wrap:anywhere"
        rows = "".join(
            f'<tr><th scope="row" style="{cell}">{_escaped(each.subject)}</th>'
            f'<td style="{cell};border-left:4px solid {_COLOURS[each.verdict]};padding:0 .8em;white-space:nowrap">'
            f"{_MARKS[each.verdict]} {each.verdict}</td>"
            f'<td style="{cell}">{_escaped(each.text)}'
            + (f"<div><strong>{_escaped(each.advice)}</strong></div>" if each.advice else "")
            + "</td></tr>"
            for each in self.findings
        )
        head = "".join(
            f'<th scope="col" style="{cell}">{name}</th>' for name in ("part", "verdict", "what is the case")
        )
        return (
            f'<table class="xprim-doctor"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
            f"<p>{_escaped(str(self))}</p>"
        )


def examine(extension: Extension) -> Diagnosis:
    """Look at everything. Raises nothing and answers within three seconds, whatever hangs."""
    begun = time.monotonic()
    here, apart = doctor_kernel.probes(extension)
    # What belongs to this thread alone (its running loop) is looked at first, and here.
    findings = [Finding(subject, *_guarded(probe)) for subject, probe in here.items()]
    try:
        kit: Toolkit = extension.kit
    except Exception as error:  # noqa: BLE001  # a setting that cannot work is what one asks a doctor about
        findings.append(Finding("settings", *_failed(error)))
    else:
        apart = {**apart, **doctor_machine.probes(kit), **doctor_registry.probes(kit)}
    findings += found_by(apart, _PATIENCE_S - (time.monotonic() - begun))
    return Diagnosis(tuple(findings), time.monotonic() - begun)


def found_by(probes: Mapping[str, Probe], patience_s: float) -> list[Finding]:
    """What each probe says, in order; one that is not done after `patience_s` seconds is left behind and told."""
    threads = DaemonThreads(max(1, len(probes)))
    asked: dict[str, Future[Said]] = {
        subject: threads.submit(_guarded, probe) for subject, probe in probes.items()
    }
    wait(asked.values(), max(0.0, patience_s))
    return [
        Finding(subject, *(future.result() if future.done() else _silent(patience_s)))
        for subject, future in asked.items()
    ]


def _guarded(probe: Probe) -> Said:
    try:
        return probe()
    except Exception as error:  # noqa: BLE001  # a probe that fails is a line
        return _failed(error)


def _failed(error: BaseException) -> Said:
    if isinstance(error, XprimError):
        return "broken", error.message, error.hint
    return "broken", f"could not be looked at: {type(error).__name__}: {error}"[:300], ""


def _silent(patience_s: float) -> Said:
    return (
        "broken",
        f"has not answered within {format_seconds(patience_s)}",
        "Run it again; if it stays so, it hangs.",
    )


def _escaped(text: str) -> str:
    return escape(clean(in_notebook(text)))
