"""Bytes that a model will take: exact where headers say it, measured where it was seen, and no more than a guess else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from xprim_nb import Config, Manager
from xprim_nb.scheduling.estimate import Footprint, FootprintKey, charged, estimate, taken
from xprim_nb.scheduling.hardware import Device, DeviceKind
from xprim_nb.workers.values import Measured, ModelFacts

from .rooms import GIB, MACHINE, MIB, SMALL_GPU, THREE_B, facts_of

_KEY = FootprintKey("f" * 8, "transformers", 4096, "", "cuda")


def test_kv_cache_of_the_example() -> None:
    """28 layers, 8 heads of 128 in float16: 112 KiB a token, 448 MiB for 4,096 of them."""
    one = estimate(THREE_B, context_tokens=1, device_kind="cuda")
    whole = estimate(THREE_B, context_tokens=4096, device_kind="cuda")
    assert one.kv_bytes == 112 * 1024
    assert whole.kv_bytes == 448 * MIB
    assert estimate(THREE_B, context_tokens=4096, device_kind="cuda", slots=3).kv_bytes == 3 * 448 * MIB


def test_two_of_the_example_fit_into_8_gb_and_three_do_not() -> None:
    """The arithmetic of the research: about 3.2 GB awake, so two of them and no third."""
    size = estimate(THREE_B, context_tokens=4096, device_kind="cuda").device_bytes
    assert 3.1e9 < size < 3.7e9
    assert 2 * size < SMALL_GPU.budget_bytes < 3 * size


def test_where_the_parts_are_counted() -> None:
    """On a GPU the process is the machine's; on the CPU all of it is; a simulated GPU stands for NVIDIA's."""
    cuda, cpu, sim = (
        estimate(THREE_B, context_tokens=4096, device_kind=kind) for kind in ("cuda", "cpu", "sim")
    )
    tensors = cuda.weights_bytes + cuda.kv_bytes + cuda.compute_bytes
    assert cuda.context_bytes == 457 * MIB
    assert (cuda.device_bytes, cuda.host_bytes) == (tensors + 457 * MIB, cuda.process_bytes)
    assert (cpu.device_bytes, cpu.host_bytes) == (0, tensors + cpu.process_bytes)
    assert (sim.device_bytes, sim.context_bytes) == (cuda.device_bytes, cuda.context_bytes)
    assert cpu.total_bytes == cpu.host_bytes


def test_what_runs_elsewhere_takes_nothing() -> None:
    """A remote model is charged with nothing, whatever its facts say."""
    facts = replace(THREE_B, is_remote=True, footprint_bytes=5)
    assert estimate(facts, context_tokens=4096, device_kind="cuda").total_bytes == 0
    assert estimate(facts, context_tokens=4096, device_kind="cuda").charges(SMALL_GPU) == ()


@pytest.mark.parametrize(("kind", "expected"), [("cuda", (7, 0)), ("cpu", (0, 7))])
def test_what_a_backend_says_replaces_every_estimate(kind: DeviceKind, expected: tuple[int, int]) -> None:
    """A given footprint is taken as it is, also after a measurement."""
    size = estimate(replace(THREE_B, footprint_bytes=7), context_tokens=4096, device_kind=kind)
    assert (size.device_bytes, size.host_bytes) == expected
    assert size.source == "given"
    assert size.after(Measured(100, 100)) == size
    assert [part.size_bytes for part in size.parts] == [7]


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_weights_of_the_demo_model_are_exact(tmp_path: Path, version: str) -> None:
    """The sum that the headers give is the sum of the arrays that are loaded."""
    async with Manager(Config(data_dir=tmp_path / "models")) as manager:
        folder = (await manager.pull(f"demo/tiny-llama {version}")).path
    arrays = [array for path in folder.glob("*.safetensors") for array in load_file(path).values()]
    size = estimate(facts_of(folder, "numpy"), context_tokens=512, device_kind="cpu")
    assert size.weights_bytes == sum(array.nbytes for array in arrays) > 0
    assert size.kv_bytes > 0


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_weights_of_models_made_here_are_exact(tmp_path: Path, dtype: str) -> None:
    """Several files, several types: every tensor is counted once, padding and headers are not."""
    made: dict[str, dict[str, npt.NDArray[np.generic]]] = {
        "a": {"x": np.zeros((3, 5), dtype), "y": np.zeros(7, "int8")},
        "b": {"z": np.zeros((2, 2, 2), dtype)},
    }
    for name, tensors in made.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
    config = {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "hidden_size": 32,
        "intermediate_size": 64,
        "vocab_size": 100,
        "max_position_embeddings": 64,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    size = estimate(facts_of(tmp_path), context_tokens=64, device_kind="cpu")
    assert size.weights_bytes == sum(array.nbytes for tensors in made.values() for array in tensors.values())
    assert size.kv_bytes == 2 * 2 * 4 * 8 * 4 * 64


@pytest.mark.parametrize(
    ("hidden", "intermediate", "item", "tokens", "measured_mib"),
    [
        (1024, 4096, 4, 2048, 199),
        (1024, 4096, 4, 4096, 389),
        (1024, 4096, 2, 4096, 191),
        (2048, 2048, 4, 2048, 240),
    ],
)
def test_working_memory_covers_what_was_measured(
    hidden: int, intermediate: int, item: int, tokens: int, measured_mib: int
) -> None:
    """Peaks seen with transformers 5.24 on the CPU while a prompt was read: covered, by no more than a quarter."""
    facts = ModelFacts(
        "m",
        "transformers",
        hidden_size=hidden,
        intermediate_size=intermediate,
        vocabulary=32_000,
        cache_item_bytes=item,
    )
    guessed = estimate(facts, context_tokens=tokens, device_kind="cpu").compute_bytes / MIB
    assert measured_mib < guessed < 1.25 * measured_mib


def test_a_measurement_replaces_what_is_typical() -> None:
    """Just loaded, a model has weights and context, and its cache is still to come: that stays counted."""
    before = estimate(THREE_B, context_tokens=4096, device_kind="cuda")
    loaded = Measured(THREE_B.weight_bytes + 300 * MIB, 700 * MIB, "nvml")
    after = before.after(loaded)
    assert after.source == "measured"
    assert after.device_bytes == before.device_bytes - 157 * MIB
    assert after.host_bytes == 700 * MIB
    assert before.after(Measured(7 * GIB, 0)).device_bytes == 7 * GIB + before.kv_bytes + before.compute_bytes


def test_on_the_cpu_the_resident_set_is_the_measure() -> None:
    """Weights that are mapped and not read yet are counted all the same."""
    before = estimate(THREE_B, context_tokens=4096, device_kind="cpu")
    after = before.after(Measured(100 * MIB, 100 * MIB, "rss"))
    assert after.host_bytes == before.host_bytes - before.process_bytes
    whole = THREE_B.weight_bytes + 900 * MIB
    assert (
        before.after(Measured(whole, whole, "rss")).host_bytes
        == whole + before.kv_bytes + before.compute_bytes
    )


def test_a_simulated_device_keeps_its_estimate() -> None:
    """Its worker runs on the CPU: what it takes of the machine is measured, what it takes there is believed."""
    before = estimate(THREE_B, context_tokens=4096, device_kind="sim")
    after = before.after(Measured(90 * MIB, 90 * MIB, "rss"))
    assert (after.device_bytes, after.host_bytes) == (before.device_bytes, 90 * MIB)


def test_what_was_learned_counts_the_largest() -> None:
    """A peak above everything foreseen is believed; one that only knows the parked residue changes nothing."""
    before = estimate(THREE_B, context_tokens=4096, device_kind="cuda")
    footprint = Footprint(
        _KEY, loaded_device_bytes=2 * GIB, device_bytes=5 * GIB, host_bytes=800 * MIB, samples=2
    )
    assert before.learned(footprint).device_bytes == 5 * GIB
    assert before.learned(replace(footprint, device_bytes=2 * GIB)).device_bytes == (
        2 * GIB + before.kv_bytes + before.compute_bytes
    )
    assert before.learned(Footprint(_KEY, parked_bytes=5)) == before


def test_charges_where_memory_is_one() -> None:
    """Apple's GPU takes the machine's memory: what is charged there is charged to the machine too."""
    apple = Device("mps", "mps", 16 * GIB, 10 * GIB, shares_memory=True)
    assert charged(apple, 5, 2) == (("cpu", 7), ("mps", 5))
    assert charged(SMALL_GPU, 5, 0) == (("cuda:0", 5),)
    assert charged(MACHINE, 5, 2) == (("cpu", 2),)


def test_what_a_worker_takes() -> None:
    """As measured, but for a simulated device, where what was reserved is taken at its word."""
    sim = Device("sim:8gb", "sim", 8 * GIB, 8 * GIB)
    assert taken(SMALL_GPU, Measured(5, 2)) == (("cpu", 2), ("cuda:0", 5))
    assert taken(MACHINE, Measured(5, 5)) == (("cpu", 5),)
    assert taken(sim, Measured(3, 3), (("cpu", 1), ("sim:8gb", 9))) == (("cpu", 3), ("sim:8gb", 9))


def test_it_can_be_read() -> None:
    """Every part has a line with its figure and where that comes from."""
    text = str(estimate(THREE_B, context_tokens=4096, device_kind="cuda"))
    lines = text.splitlines()
    assert lines[0].startswith("example/3b v1 on cuda: 3.")
    assert "1.0 GB of the machine's memory" in lines[0]
    for name, figure in (("weights", "1.9 GB"), ("KV cache", "448.0 MB"), ("device context", "457.0 MB")):
        assert any(name in line and figure in line for line in lines)
    assert "on the CPU" in str(estimate(THREE_B, context_tokens=512, device_kind="cpu"))


@given(
    context=st.integers(1, 200_000),
    more=st.integers(0, 10_000),
    kind=st.sampled_from(["cpu", "cuda", "mps", "sim"]),
    slots=st.integers(1, 8),
)
def test_more_never_takes_less(context: int, more: int, kind: DeviceKind, slots: int) -> None:
    """A longer context or another answer at once never shrinks a figure, and parts add up to the whole."""
    small = estimate(THREE_B, context_tokens=context, device_kind=kind, slots=slots)
    large = estimate(THREE_B, context_tokens=context + more, device_kind=kind, slots=slots + 1)
    assert large.device_bytes >= small.device_bytes
    assert large.host_bytes >= small.host_bytes
    assert sum(part.size_bytes for part in small.parts) == small.total_bytes
