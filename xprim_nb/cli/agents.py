"""The command for agents: `xprim mcp`.

Source: spec 2 §For agents.
"""

from __future__ import annotations

import click

from xprim_nb.cli.boundary import DoorCommand, pass_session
from xprim_nb.cli.session import Session
from xprim_nb.errors import MissingExtraError

__all__ = ["mcp"]


@click.command(cls=DoorCommand)
@click.option(
    "--allow-changes", is_flag=True, help="Let agents initialize, refresh, repair, clean up, and run models."
)
@pass_session
def mcp(session: Session, *, allow_changes: bool) -> None:
    """Serve the cache to agents, as Model Context Protocol tools on stdin and stdout.

    Read-only unless --allow-changes is given. Ends when the client closes stdin.
    """
    try:
        from xprim_nb.agents import mcp as server  # noqa: PLC0415  # house: needs an optional package
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("mcp", "mcp_types"):
            raise
        raise MissingExtraError.for_extra("mcp", "`xprim mcp`") from error
    session.run(lambda manager: server.serve(manager, allow_changes=allow_changes))
