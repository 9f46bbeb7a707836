"""Ways to hold a model, best first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xprim_nb.scheduling.estimate import Footprint, estimate
from xprim_nb.scheduling.hardware import Device
from xprim_nb.scheduling.options import REMOTE, footprint_key, options_for, placements_for
from xprim_nb.scheduling.state import Option
from xprim_nb.workers.values import Capabilities, ModelFacts

from .rooms import GIB, MACHINE, MIB, SMALL_GPU, THREE_B

_TORCH = Capabilities(has_process=True, can_park=True, devices=("cpu", "cuda", "mps"))
_NUMPY = Capabilities(has_process=True, devices=("cpu",))
_OTHER_GPU = replace(SMALL_GPU, id="cuda:1", free_bytes=2 * GIB)
_SIM = Device("sim:8gb", "sim", 8 * GIB, 8 * GIB, free_bytes=8 * GIB)
_APPLE = Device("mps", "mps", 16 * GIB, 10 * GIB, free_bytes=9 * GIB, shares_memory=True, runs_on="mps")


def _ways(
    *devices: Device,
    facts: ModelFacts = THREE_B,
    capabilities: Capabilities = _TORCH,
    context: int = 4096,
    smaller: bool = False,
    cpu: bool = False,
) -> list[tuple[str, int, str]]:
    options = options_for(
        facts,
        devices,
        {},
        context_tokens=context,
        allow_smaller_context=smaller,
        allow_cpu=cpu,
        capabilities=capabilities,
    )
    return [(option.device, option.context_tokens, option.degraded) for option in options]


def test_accelerators_come_first_the_freest_ahead() -> None:
    """With a GPU nothing else is offered; of two the one with more free memory is first."""
    assert _ways(MACHINE, _OTHER_GPU, SMALL_GPU) == [("cuda:0", 4096, ""), ("cuda:1", 4096, "")]


def test_without_an_accelerator_the_cpu_is_no_loss() -> None:
    """A machine without one, and a backend that can use none, compute on the CPU; that is not called degraded."""
    assert _ways(MACHINE) == [("cpu", 4096, "")]
    assert _ways(MACHINE, SMALL_GPU, capabilities=_NUMPY) == [("cpu", 4096, "")]


def test_degraded_ways_come_last_and_only_when_allowed() -> None:
    """Halved contexts down to 512 tokens, then the CPU, whole and then halved."""
    assert _ways(MACHINE, SMALL_GPU, context=2048, smaller=True, cpu=True) == [
        ("cuda:0", 2048, ""),
        ("cuda:0", 1024, "context of 1,024 tokens"),
        ("cuda:0", 512, "context of 512 tokens"),
        ("cpu", 2048, "on the CPU"),
        ("cpu", 1024, "on the CPU, context of 1,024 tokens"),
        ("cpu", 512, "on the CPU, context of 512 tokens"),
    ]
    assert _ways(MACHINE, SMALL_GPU, cpu=True) == [("cuda:0", 4096, ""), ("cpu", 4096, "on the CPU")]
    assert [size for _, size, _ in _ways(SMALL_GPU, context=1300, smaller=True)] == [1300, 650, 512]
    assert [size for _, size, _ in _ways(SMALL_GPU, context=300, smaller=True)] == [300]


def test_a_model_with_less_context_gets_what_it_has() -> None:
    """Its own maximum is all there is to have, and no loss."""
    small = replace(THREE_B, max_context_tokens=512)
    assert _ways(MACHINE, facts=small, smaller=True) == [("cpu", 512, "")]
    assert _ways(MACHINE, facts=replace(THREE_B, max_context_tokens=0)) == [("cpu", 4096, "")]


def test_a_simulated_device_is_an_accelerator_for_whoever_computes_on_the_cpu() -> None:
    """It is there because somebody asked for it; a backend without processes here cannot use it."""
    assert _ways(MACHINE, _SIM, capabilities=_NUMPY) == [("sim:8gb", 4096, "")]
    assert _ways(MACHINE, _SIM, capabilities=_NUMPY, cpu=True)[1] == ("cpu", 4096, "on the CPU")
    assert _ways(MACHINE, _SIM, capabilities=Capabilities(has_process=False)) == [("cpu", 4096, "")]


def test_no_device_that_a_backend_can_use() -> None:
    """Then there is no way."""
    assert _ways(MACHINE, capabilities=Capabilities(has_process=True, devices=("cuda",))) == []


def test_a_remote_model_has_one_way_and_no_charge() -> None:
    """It needs no device of this machine."""
    remote = Capabilities(has_process=False, is_remote=True)
    expected = (Option(REMOTE, 4096, (), source="given"),)
    assert options_for(THREE_B, [], {}, context_tokens=4096, capabilities=remote) == expected
    elsewhere = replace(THREE_B, is_remote=True)
    assert options_for(elsewhere, [SMALL_GPU], {}, context_tokens=4096, capabilities=_TORCH) == expected


def test_charges_on_the_accelerator_and_on_the_machine() -> None:
    """Both are sorted by device; parked, the driver's context stays there and the weights go to the machine."""
    (option,) = options_for(THREE_B, [SMALL_GPU], {}, context_tokens=4096, capabilities=_TORCH)
    size = estimate(THREE_B, context_tokens=4096, device_kind="cuda")
    assert option.awake == (("cpu", size.host_bytes), ("cuda:0", size.device_bytes))
    assert option.parked == (("cpu", size.host_bytes + size.weights_bytes), ("cuda:0", 457 * MIB))
    assert option.source == "estimated"
    assert option.load_s == pytest.approx(9.0)


def test_only_what_can_leave_an_accelerator_has_a_parked_charge() -> None:
    """On the CPU, on a simulated device, and of a backend that cannot, there is none."""
    cannot = replace(_TORCH, can_park=False)
    for device, capabilities in ((MACHINE, _TORCH), (_SIM, _TORCH), (SMALL_GPU, cannot)):
        (option,) = options_for(THREE_B, [device], {}, context_tokens=512, capabilities=capabilities)
        assert option.parked is None


def test_on_apple_the_machine_is_charged_with_both() -> None:
    """Its GPU's memory is the machine's."""
    (option,) = options_for(THREE_B, [_APPLE], {}, context_tokens=512, capabilities=_TORCH)
    charges = dict(option.awake)
    assert charges["cpu"] > charges["mps"] > THREE_B.weight_bytes


def test_a_server_on_this_machine_has_no_process_of_ours() -> None:
    """Its model is charged on the device with what it says, and nothing is added for an interpreter."""
    server = Capabilities(has_process=False, devices=("cpu", "cuda"))
    given = replace(THREE_B, footprint_bytes=3 * GIB)
    (option,) = options_for(given, [SMALL_GPU], {}, context_tokens=512, capabilities=server)
    assert (option.awake, option.source) == ((("cuda:0", 3 * GIB),), "given")
    (option,) = options_for(THREE_B, [MACHINE], {}, context_tokens=512, capabilities=server)
    size = estimate(THREE_B, context_tokens=512, device_kind="cpu")
    assert option.awake == (("cpu", size.host_bytes - size.process_bytes),)


def test_a_learned_footprint_replaces_the_estimate() -> None:
    """Only that of these weights, context, settings and kind of device; its load time and residue with it."""
    key = footprint_key(THREE_B, SMALL_GPU, 4096, "bf16")
    learned = {
        key: Footprint(
            key,
            loaded_device_bytes=3 * GIB,
            device_bytes=5 * GIB,
            host_bytes=GIB,
            parked_bytes=700 * MIB,
            load_s=2.5,
            samples=3,
        )
    }

    def only(settings: str, context: int = 4096, facts: ModelFacts = THREE_B) -> Option:
        (option,) = options_for(
            facts,
            [SMALL_GPU],
            learned,
            context_tokens=context,
            capabilities=_TORCH,
            settings=settings,
        )
        return option

    found = only("bf16")
    assert (found.source, found.load_s) == ("measured", 2.5)
    assert found.awake == (("cpu", GIB), ("cuda:0", 5 * GIB))
    assert found.parked is not None
    assert dict(found.parked)["cuda:0"] == 700 * MIB
    for other in (only(""), only("bf16", 2048), only("bf16", facts=replace(THREE_B, fingerprint="other"))):
        assert other.source == "estimated"
    nameless = replace(THREE_B, fingerprint="")
    learned[footprint_key(nameless, SMALL_GPU, 4096, "bf16")] = learned[key]
    assert only("bf16", facts=nameless).source == "estimated"


def test_a_placement_carries_what_its_option_was_made_from() -> None:
    """The device, the figures, and the key that a measurement is learned under."""
    (placement,) = placements_for(THREE_B, [_SIM], {}, context_tokens=4096, capabilities=_NUMPY, settings="s")
    assert placement.device == _SIM
    assert placement.estimate.charges(_SIM) == placement.option.awake
    assert (placement.key.settings, placement.key.device_kind) == ("s", "sim")
