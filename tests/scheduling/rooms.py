"""Facts, devices and models that tests of the scheduling room share."""

from __future__ import annotations

import json
from pathlib import Path

from xprim_nb.registry.tensors import parse_tensor_file
from xprim_nb.scheduling.hardware import Device
from xprim_nb.scheduling.leases import Lease, LeaseState
from xprim_nb.scheduling.ledger import Ledger
from xprim_nb.scheduling.state import DeviceState
from xprim_nb.workers.values import ModelFacts

__all__ = [
    "GIB",
    "MACHINE",
    "MIB",
    "SMALL_GPU",
    "THREE_B",
    "Clock",
    "come_to",
    "facts_of",
    "reserved",
    "state",
]

MIB, GIB = 1 << 20, 1 << 30

# The research's example: 28 layers, 8 KV heads of 128, float16; 2.0 GB of weights in 4 bits.
THREE_B = ModelFacts(
    "example/3b v1",
    "transformers",
    fingerprint="f" * 8,
    weight_bytes=2 * 10**9,
    layers=28,
    key_value_heads=8,
    head_dim=128,
    hidden_size=3072,
    intermediate_size=8192,
    vocabulary=128_256,
    max_context_tokens=131_072,
)
SMALL_GPU = Device("cuda:0", "cuda", 8 * GIB, 8 * GIB - 400 * MIB, free_bytes=8 * GIB, runs_on="cuda:0")
MACHINE = Device("cpu", "cpu", 16 * GIB, 12 * GIB, free_bytes=14 * GIB)


class Clock:
    """Time that is set by hand, in seconds since the epoch."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def state(name: str, budget: int, external: int = 0, free: int | None = None) -> DeviceState:
    """A device as the policy sees it."""
    return DeviceState(name, budget, external, free)


def reserved(ledger: Ledger, size: int = 10) -> Lease:
    """A lease on a device of 100 bytes."""
    lease = ledger.reserve("numpy:m", (("gpu", size),), [state("gpu", 100)])
    assert isinstance(lease, Lease)
    return lease


def come_to(ledger: Ledger, target: LeaseState, size: int = 10) -> Lease:
    """A lease that has come to a state by the ordinary way."""
    lease = reserved(ledger, size)
    way: list[LeaseState] = ["loading", "resident", "draining", "releasing"]
    if target == "parked":
        way = ["loading", "resident", "draining", "parked"]
    if target == "ghost":
        way = [*way, "ghost"]
    for step in way[: way.index(target) + 1] if target != "reserved" else []:
        lease = ledger.advance(lease.id, step)
    return lease


def facts_of(folder: Path, backend: str = "transformers") -> ModelFacts:
    """What an estimate needs to know of a Llama directory, read from its configuration and its headers alone."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    weights = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:

            def read(offset: int, length: int) -> bytes:
                file.seek(offset)  # called before the next file
                return file.read(length)

            parsed = parse_tensor_file(read, path.stat().st_size, path.name)
        assert parsed is not None
        weights += sum(tensor.size_bytes for tensor in parsed.tensors)
    heads = config["num_attention_heads"]
    return ModelFacts(
        folder.name,
        backend,
        fingerprint="0" * 8,
        weight_bytes=weights,
        layers=config["num_hidden_layers"],
        key_value_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        hidden_size=config["hidden_size"],
        intermediate_size=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        max_context_tokens=config["max_position_embeddings"],
        cache_item_bytes=4,
    )
