"""What a device is: one frozen look at it. No driver is asked in here.

Source: spec 4 §Residency (`devices()`); research residency §4.9.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from xprim_nb._text import clean, format_bytes

__all__ = ["MACHINE", "Device", "DeviceKind"]

DeviceKind: TypeAlias = Literal["cpu", "cuda", "mps", "sim"]

MACHINE = "cpu"
"""Id of the machine's memory, which every worker takes some of, wherever it computes."""


@dataclass(frozen=True, slots=True)
class Device:
    """One device, as it was found at one moment. Sizes in bytes.

    Attributes:
        id: `cuda:0`, `mps`, `cpu`, `sim:…`: the same in every kernel of this machine, since the ledger goes by it.
        kind: What it is.
        name: As its driver calls it.
        total_bytes: Its memory; of the machine, what this process may use when that is less (a container's limit).
        budget_bytes: What all our models together may take, safety margin taken off.
        margin_bytes: Left to the driver and the system; `budget_bytes` is at most the total without it.
        used_bytes: What everybody uses now.
        free_bytes: What the driver says is free; None when it does not say.
        processes: Bytes by process id, where the driver tells; None where it does not (WDDM, WSL, Metal).
        shares_memory: Its memory is the machine's: what it takes is taken there too.
        runs_on: What `LoadOptions.device` is for it: `cpu` for a simulated one, `cuda:0` with `variables`.
        variables: What its worker's environment needs, so that CUDA's numbering cannot differ from the driver's.
        uuid: The driver's own name for it; empty when there is none.
        driver: Version; empty when there is none.
        trouble: Why it cannot be asked or used now, in a sentence.
    """

    id: str
    kind: DeviceKind
    total_bytes: int
    budget_bytes: int
    name: str = ""
    margin_bytes: int = 0
    used_bytes: int = 0
    free_bytes: int | None = None
    processes: Mapping[int, int] | None = None
    shares_memory: bool = False
    runs_on: str = "cpu"
    variables: Mapping[str, str] = field(default_factory=dict)
    uuid: str = ""
    driver: str = ""
    trouble: str = ""

    def __str__(self) -> str:
        free = "" if self.free_bytes is None else f", {format_bytes(self.free_bytes)} free"
        told = f"{self.id} ({clean(self.name) or self.kind}): {format_bytes(self.total_bytes)}{free}"
        told += f", {format_bytes(self.budget_bytes)} for models"
        return f"{told}; {self.trouble}" if self.trouble else told
