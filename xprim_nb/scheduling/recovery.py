"""Sees that the memory of a process that has ended came back, before its charge is given away.

Source: spec 4 §Residency (ledger); research residency §4.9, §3.
"""

from __future__ import annotations

import asyncio

from xprim_nb._threads import settled
from xprim_nb.scheduling.charging import Charging
from xprim_nb.scheduling.held import Held
from xprim_nb.scheduling.leases import freed_at
from xprim_nb.scheduling.state import Charges

__all__ = ["recovered"]

# Drivers show freed memory within 1.5 s as a rule; after 5 s it is a ghost. Source: research residency §3 (ollama).
_RECOVERY_S, _RECOVERY_POLL_S = 5.0, 0.25


async def recovered(charging: Charging, held: Held, before: dict[str, int]) -> Charges:
    """Release the charge when the devices show its memory free again, or make it a ghost: the result is what is left.

    Args:
        charging: Keeps the ledger in step.
        held: The model, whose process has ended.
        before: Free bytes by device while it still ran.

    Raises:
        StorageError: The ledger can be neither read nor written.
    """
    loop, placement = asyncio.get_running_loop(), held.placed
    deadline = loop.time() + _RECOVERY_S
    charged = placement.option.awake if placement is not None else ()
    wanted = freed_at(tuple(each for each in charged if each[0].startswith("cuda")), before)
    while wanted and loop.time() < deadline:
        free = await settled(charging.free)
        if all(free.get(name, size) >= size for name, size in wanted):
            break
        await asyncio.sleep(_RECOVERY_POLL_S)
    else:
        if wanted:
            reason = f"its memory was not seen to come back within {_RECOVERY_S:.0f} s"
            return await settled(charging.haunt, held, charged, wanted, reason)
    await settled(charging.release, held, "its memory came back")
    return ()
