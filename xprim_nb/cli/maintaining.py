"""The command `maintain`, for whoever has it run: cron, systemd, launchd, the Task Scheduler.

Source: spec 2 §Maintenance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from xprim_nb.cli import documents
from xprim_nb.cli.answers import dry_run_option, lines_of
from xprim_nb.cli.boundary import DoorCommand, pass_session
from xprim_nb.cli.cache_upkeep import policy_of, policy_options
from xprim_nb.cli.progress import checking
from xprim_nb.cli.session import Session
from xprim_nb.errors import HashMismatchError, XprimError

if TYPE_CHECKING:
    from xprim_nb.manager import Manager
    from xprim_nb.manager.due import Schedule
    from xprim_nb.manager.steward import MaintenanceReport

__all__ = ["maintain"]


@click.command(cls=DoorCommand)
@click.option("--if-due", is_flag=True, help="Only when the schedule says so.")
@click.option(
    "--schedule",
    type=click.Choice(("daily", "weekly", "monthly", "never")),
    help="Remember when it is due; never forgets it, and runs nothing.",
)
@click.option("--full", is_flag=True, help="Hash every byte.")
@click.option(
    "--scrub",
    "scrub_s",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Spent, without --full, on what was verified longest ago.",
)
@policy_options
@dry_run_option
@pass_session
def maintain(
    session: Session,
    /,
    *,
    if_due: bool,
    schedule: Schedule | Literal["never"] | None,
    full: bool,
    scrub_s: float,
    dry_run: bool,
    **how: Any,
) -> None:
    """Check everything, mend what is damaged, clean up, and say what was done.

    What cannot be mended is put back from its backup. Exits with 6 when something stays damaged, with 1 when a step
    failed, and with 0 when it was not due, which --quiet does not even say.
    """
    policy = policy_of(how)
    remembered = None if schedule == "never" else schedule
    if dry_run:
        plan = session.run(lambda manager: manager.plan_maintenance(policy, schedule=remembered))
        session.answer({"plan": documents.plain(plan)}, *lines_of(session, plan))
        return
    if schedule == "never":
        record = session.run(lambda manager: manager.schedule_maintenance(None))
        session.answer({"scheduled": documents.plain(record)}, *lines_of(session, record))
        return

    async def work(manager: Manager) -> MaintenanceReport:
        if remembered is not None:
            await manager.schedule_maintenance(remembered)
        return await manager.maintain(
            policy, if_due=if_due, depth="full" if full else "quick", scrub_s=scrub_s
        )

    with checking(session):
        done = session.run(work)
    # Cron sends a mail for every line, and asks every hour.
    told = lines_of(session, done) if done.ran or not session.quiet else ()
    session.answer({"maintained": {**documents.plain(done), "verdict": done.verdict}}, *told)
    _require_well(done)


def _require_well(done: MaintenanceReport) -> None:
    if done.unresolved:
        first = done.unresolved[0]
        raise HashMismatchError(f"{first.ref}: {first.problem}", subject=first.ref, hint=first.next_step)
    if done.problems:
        raise XprimError(done.problems[0])
