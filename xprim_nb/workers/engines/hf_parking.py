"""Weights leave an accelerator for the machine's memory and come back, all of them or none.

Source: spec 4 §Residency ("parked tiers"); research/residency §4.5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["Parking"]


class Parking:
    """The way out of one model's weights and back.

    The copies in the machine's memory are kept after the way back: weights do not change, so the next way out costs
    no copy, and page-locked memory, which takes longest to get, is asked for once.

    Args:
        model: What moves; layers that came since the last time move with it.
        device: Where it computes.
        pinned: Whether the copies are page-locked, which CUDA copies from at full speed.
    """

    def __init__(self, model: Any, device: str, *, pinned: bool) -> None:
        self._model, self._device, self._pinned = model, device, pinned
        # By a parameter's id: the parameter, which keeps the id its own, and its copy.
        self._kept: dict[int, tuple[Any, Any]] = {}
        self.is_parked = False

    def park(self) -> None:
        """Move every tensor out.

        Raises:
            MemoryError, RuntimeError: The machine's memory does not suffice; nothing has moved.
        """
        tensors = self._tensors()
        known = [self._kept.get(id(tensor), (None, None))[1] for tensor in tensors]
        copied = iter(
            _relocated([t for t, copy in zip(tensors, known, strict=True) if copy is None], self._to_host)
        )
        copies = [copy if copy is not None else next(copied) for copy in known]
        self._wait()
        self._kept = {
            id(tensor): (tensor, copy)
            for tensor, copy in zip(tensors, copies, strict=True)
            if isinstance(tensor, torch.nn.Parameter)  # buffers are small, and some models write to theirs
        }
        self._switch(tensors, copies)
        self.is_parked = True

    def wake(self) -> None:
        """Move every tensor back.

        Raises:
            torch.OutOfMemoryError: The accelerator has no room; nothing has moved.
        """
        tensors = self._tensors()
        copies = _relocated(tensors, self._to_device)
        self._wait()
        self._switch(tensors, copies)
        self.is_parked = False

    def _tensors(self) -> list[Any]:
        return [*self._model.parameters(), *self._model.buffers()]

    def _to_host(self, source: Any) -> Any:
        host = torch.empty(source.shape, dtype=source.dtype, pin_memory=self._pinned)
        return host.copy_(source, non_blocking=self._pinned)

    def _to_device(self, source: Any) -> Any:
        return torch.empty(source.shape, dtype=source.dtype, device=self._device).copy_(
            source, non_blocking=self._pinned
        )

    def _wait(self) -> None:
        if self._pinned:
            torch.cuda.synchronize(self._device)

    @staticmethod
    def _switch(tensors: list[Any], copies: list[Any]) -> None:
        for tensor, copy in zip(tensors, copies, strict=True):
            tensor.data = copy


def _relocated(tensors: list[Any], copy: Callable[[Any], Any]) -> list[Any]:
    """The same tensors on copies of their storage; those that shared one (tied weights) share its copy."""
    made: dict[int, Any] = {}
    found = []
    for tensor in tensors:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in made:
            whole = torch.empty(0, dtype=torch.uint8, device=tensor.device)
            made[storage.data_ptr()] = copy(whole.set_(storage, 0, (storage.nbytes(),), (1,)))
        target = made[storage.data_ptr()]
        view = torch.empty(0, dtype=tensor.dtype, device=target.device)
        found.append(
            view.set_(target.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())
        )
    return found
