"""`xprim prompts analyze`: what the calls came to, what would have saved tokens, and whether that is good enough for CI.

`xprim prompts export` tells a collector of OpenTelemetry what is recorded.

Limits for `--ci` are options, or stand in the `pyproject.toml` of this directory or one above it:

    [tool.xprim.prompts.ci]
    min-response-hit-share = 0.5    # of all questions, those that the response cache answered
    min-prefix-read-share = 0.8     # of the tokens that providers tell of, those that they read from their caches
    max-failed = 0                  # calls that failed
    max-billed = "1.50"             # US dollars that providers told of; what is estimated has a limit of its own

They are the fields of `Thresholds`, which says of each what it means.

Source: spec 6 §Faces (`analyze --ci`), §Telemetry.
"""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xprim_nb._text import format_seconds
from xprim_nb.cli import documents, words
from xprim_nb.cli.boundary import DoorCommand, pass_session
from xprim_nb.cli.session import Session
from xprim_nb.errors import ConfigError, PromptError

if TYPE_CHECKING:
    from xprim_nb.prompts.telemetry import Summary, Thresholds

__all__ = ["analyze", "export"]

_BY = ("provider", "model", "scaffold_type", "checkpoint", "day")
_HEADERS = ("", "CALLS", "FAILED", "ANSWERED BEFORE", "TOKENS IN", "OUT", "READ FROM CACHE", "COST", "MEDIAN")


@click.command(cls=DoorCommand, short_help="Say what the calls came to, and what would have saved tokens.")
@click.option(
    "--by", type=click.Choice(_BY), default="provider", show_default=True, help="What is put together."
)
@click.option(
    "--checkpoint", metavar="ID", help="Only what led to a checkpoint: its id, a branch, or a name."
)
@click.option("--ci", is_flag=True, help="End with 9 when a limit is broken.")
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=NUMBER",
    help="One of the limits of --ci, as max-failed=0.",
)
@pass_session
def analyze(
    session: Session, /, *, by: str, checkpoint: str | None, ci: bool, limits: tuple[str, ...]
) -> None:
    """Say what the calls came to: tokens, money, latency, and each cache's own share; and what would have saved tokens.

    With --ci, limits that are not given are those of [tool.xprim.prompts.ci] in pyproject.toml.
    """
    held = _limits(limits) if ci else None
    with session.connected() as kit:
        analysis = kit.prompts.analysis(checkpoint=checkpoint or "").result()
        advice = kit.prompts.optimize().result()
    found, total = analysis.parts(by), analysis.total  # type: ignore[arg-type]  # one of _BY
    broken = importlib.import_module("xprim_nb.prompts.telemetry").check(analysis, held) if held else ()
    document = {
        "analysis": [_document(each) for each in found],
        "advice": [{**each.document(), "sentence": str(each)} for each in advice],
        "totals": _document(total),
        "steps": analysis.document()["steps"],
    }
    if held is not None:
        document["limits"] = {
            name: documents.plain(limit) for name, limit in asdict(held).items() if limit is not None
        }
    steps = [step.lstrip() for step in analysis.step_lines()]
    session.answer(document, *words.table(_HEADERS, map(_row, found)), *steps)
    for each in advice:
        session.note(f"→ {each}")
    if not total.operations:
        session.note("no call was made yet")
    if broken:
        raise PromptError(
            " ".join(map(str, broken)),
            subject="analyze",
            hint="`xprim prompts explain` shows where a prompt's prefix breaks.",
        )


@click.command(cls=DoorCommand, short_help="Tell a collector of OpenTelemetry of the calls.")
@click.argument("url", metavar="[URL]", default="")
@click.option("--checkpoint", default="", metavar="ID", help="Only what led to a checkpoint.")
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    metavar="DATE",
    help="Only what began then or later, in UTC: 2026-11-28.",
)
@pass_session
def export(session: Session, /, *, url: str, checkpoint: str, since: datetime | None) -> None:
    """Tell the collector at URL of the calls that are recorded: names and numbers, not a word of what was said.

    It takes OTLP over HTTP, as http://localhost:4318; without URL it is the one of OpenTelemetry's own settings. A call
    that is sent again is the same span. `kit.prompts.export_to` tells each call as it ends. Needs the extra `otel`.
    """
    since_s = since.replace(tzinfo=UTC).timestamp() if since is not None else 0.0
    with session.connected() as kit:
        sent = kit.prompts.send_recorded(url, checkpoint=checkpoint, since_s=since_s).result()
    session.answer({"exported": sent}, f"Sent: {words.count(sent, 'call')}")


def _limits(given: Sequence[str]) -> Thresholds:
    """The limits: those given, over those of the project.

    Raises:
        ConfigError: One cannot work, or there is none.
    """
    kind: type[Thresholds] = importlib.import_module("xprim_nb.prompts.telemetry").Thresholds
    told = {
        name.strip().replace("_", "-"): value.strip()
        for name, _, value in (each.partition("=") for each in given)
    }
    found = {name.replace("-", "_"): value for name, value in {**_of_project(Path.cwd()), **told}.items()}
    kinds = {each.name: str(each.type) for each in fields(kind)}
    unknown = sorted(set(found) - set(kinds))
    if unknown:
        raise ConfigError(
            f"There is no limit {unknown[0]!r:.60}.",
            subject="--ci",
            hint=f"There are {', '.join(each.replace('_', '-') for each in kinds)}.",
        )
    if not found:
        raise ConfigError(
            "--ci has no limit to hold anything to.",
            subject="--ci",
            hint="Give --limit max-failed=0, or write it in [tool.xprim.prompts.ci] of pyproject.toml.",
        )
    return kind(**{name: _number(name, value, kinds[name]) for name, value in found.items()})


def _number(name: str, value: object, kind: str) -> Any:  # noqa: ANN401  # what a field of that kind takes
    try:
        number = Decimal(str(value))
        if not number.is_finite() or (kind.startswith("int") and number != int(number)):
            raise InvalidOperation
    except InvalidOperation as error:
        raise ConfigError(
            f"The limit {name.replace('_', '-')} is {value!r:.60}, which is no number that it can be.",
            subject="--ci",
            hint="Write a number.",
        ) from error
    return number if kind.startswith("Decimal") else int(number) if kind.startswith("int") else float(number)


def _of_project(folder: Path) -> dict[str, Any]:
    for each in (folder, *folder.parents):
        path = each / "pyproject.toml"
        if not path.is_file():
            continue
        try:
            told: Any = tomllib.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise ConfigError(
                f"{path} cannot be read: {error}", subject=str(path), hint="Mend the file."
            ) from error
        for name in ("tool", "xprim", "prompts", "ci"):
            told = told.get(name, {}) if isinstance(told, Mapping) else {}
        return {name.replace("_", "-"): value for name, value in dict(told).items()}
    return {}


def _document(each: Summary) -> dict[str, Any]:
    return {
        **each.document(),
        "hits": each.hits,
        "answer_hit_share": round(each.rate("response").share, 6),
        "prefix_read_share": round(each.prefix_read_share, 6),
    }


def _row(each: Summary) -> tuple[str, ...]:
    costs = [f"${each.billed:.4f}"] if each.billed else []
    costs += [f"~${each.estimated:.4f}"] if each.estimated else []
    return (
        each.key or "-",
        f"{each.calls:,}",
        f"{each.failed:,}",
        f"{each.hits:,} ({_percent(each.rate('response').share)})",
        f"{each.input_tokens:,}",
        f"{each.output_tokens:,}",
        _percent(each.prefix_read_share),
        " + ".join(costs) or "-",
        format_seconds(each.latency.p50_s),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
