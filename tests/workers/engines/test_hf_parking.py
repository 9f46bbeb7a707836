"""Weights go out and come back the same, all or none. Here both places are the CPU's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from xprim_nb.workers.engines.hf_parking import Parking


class Small(torch.nn.Module):  # type: ignore[misc]  # torch has no types here
    """Two layers that share a weight, a view into a larger tensor, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.part = torch.nn.Parameter(torch.rand(6, 3).t()[1:], requires_grad=False)
        self.alias = torch.nn.Parameter(self.part.data, requires_grad=False)
        self.register_buffer("inverse", torch.rand(3, dtype=torch.float64))
        self.register_buffer("nothing", torch.empty(0))
        self.requires_grad_(False)


def state(model: Any) -> dict[str, Any]:
    """Every number of the model."""
    return {name: each.clone() for name, each in model.state_dict().items()}


def places(model: Any) -> list[int]:
    """Where each tensor lies."""
    return [
        each.untyped_storage().data_ptr() for each in (*model.parameters(), *model.buffers()) if each.numel()
    ]


def test_weights_come_back_the_same() -> None:
    """After a way out and back every tensor has its numbers, its layout and what it shares."""
    model = Small()
    before, layout, at = state(model), model.part.stride(), places(model)
    parking = Parking(model, "cpu", pinned=False)
    for step in (parking.park, parking.wake) * 2:
        step()
        assert not set(at) & set(places(model)), "it has moved"
        assert all(torch.equal(each, before[name]) for name, each in state(model).items())
        assert model.first.weight is model.second.weight
        assert model.part.data_ptr() == model.alias.data_ptr()
        assert model.part.stride() == layout
        at = places(model)


def test_the_second_way_out_copies_no_weight() -> None:
    """The copies are kept; what came meanwhile is copied, and what left is let go."""
    model = Small()
    parking = Parking(model, "cpu", pinned=False)
    parking.park()
    kept = model.first.weight.data_ptr()
    parking.wake()
    model.second = torch.nn.Linear(4, 4).requires_grad_(False)
    model.inverse.add_(1.0)
    inverse = model.inverse.clone()
    parking.park()
    assert model.first.weight.data_ptr() == kept
    assert torch.equal(model.inverse, inverse)
    parking.wake()
    del model.second
    parking.park()
    assert {id(each) for each in model.parameters()} == set(parking._kept)


@pytest.mark.parametrize("way", ["park", "wake"])
def test_a_failure_moves_nothing(way: str) -> None:
    """When there is no room half way, every tensor is where it was."""
    model = Small()
    parking = Parking(model, "cpu", pinned=False)
    if way == "wake":
        parking.park()
    at, before, was = places(model), state(model), parking.is_parked
    left = iter([1])

    def failing(copy: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def one(source: Any) -> Any:
            if next(left, None) is None:
                raise torch.OutOfMemoryError("no room")
            return copy(source)

        return one

    for name in ("_to_host", "_to_device"):
        setattr(parking, name, failing(getattr(parking, name)))
    with pytest.raises(torch.OutOfMemoryError):
        getattr(parking, way)()
    assert (places(model), parking.is_parked) == (at, was)
    assert all(torch.equal(each, before[name]) for name, each in state(model).items())
