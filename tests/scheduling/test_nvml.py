"""NVIDIA's devices through the real `pynvml` over a driver that is a stand-in: see `nvidia.py`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from xprim_nb.scheduling import nvml
from xprim_nb.scheduling.machine import machine_memory
from xprim_nb.scheduling.nvml import find_nvidia

from .nvidia import NOT_AVAILABLE, Driver, Gpu, installed
from .rooms import GIB, MIB

_NOT_SUPPORTED, _NO_PERMISSION, _DRIVER_NOT_LOADED, _LIBRARY_NOT_FOUND = 3, 4, 9, 12
_GPU_IS_LOST, _MISMATCH, _UNKNOWN = 15, 18, 999
_MARGIN = 400 * MIB


@pytest.fixture
def driver() -> Iterator[Driver]:
    """Two GPUs; a stranger and one process of ours on the first."""
    first = Gpu(8 * GIB, 3 * GIB, uuid="GPU-aaaa", compute={100: GIB, 200: 2 * GIB}, graphics={200: 2 * GIB})
    with installed(Driver([first, Gpu(24 * GIB, uuid="GPU-bbbb", name="NVIDIA Other")])) as made:
        yield made


@pytest.fixture(autouse=True)
def no_driver_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel says nothing of NVIDIA, unless the file is made."""
    monkeypatch.setattr(nvml, "_DRIVER", tmp_path / "version")
    return tmp_path / "version"


def test_what_the_driver_tells(driver: Driver) -> None:
    """Memory, name, UUID, version, and the bytes of each process once, though it computes and draws."""
    probes, note = find_nvidia()
    device = probes[0].look(())
    assert note == ""
    assert (device.id, device.kind, device.name) == ("cuda:0", "cuda", "NVIDIA Example 8GB")
    assert (device.total_bytes, device.used_bytes, device.free_bytes) == (8 * GIB, 3 * GIB, 5 * GIB)
    assert (device.margin_bytes, device.budget_bytes) == (_MARGIN, 8 * GIB - _MARGIN)
    assert device.processes == {100: GIB, 200: 2 * GIB}
    assert (device.uuid, device.driver) == ("GPU-aaaa", "580.65")
    assert (device.runs_on, device.variables) == ("cuda:0", {"CUDA_VISIBLE_DEVICES": "GPU-aaaa"})
    other = probes[1].look(())
    assert (other.id, other.processes, other.runs_on) == ("cuda:1", {}, "cuda:0")
    assert str(other) == "cuda:1 (NVIDIA Other): 24.0 GB, 24.0 GB free, 23.6 GB for models"


def test_each_look_asks_again(driver: Driver) -> None:
    """Another program's memory is seen as soon as it is taken."""
    probe = find_nvidia()[0][0]
    assert probe.look(()).free_bytes == 5 * GIB
    driver.gpus[0].used = 7 * GIB
    assert probe.look(()).free_bytes == GIB


def test_a_users_limit(driver: Driver) -> None:
    """It holds for each GPU, and cannot be more than there is."""
    budgets = [probe.look(()).budget_bytes for probe in find_nvidia(most=10 * GIB)[0]]
    assert budgets == [8 * GIB - _MARGIN, 10 * GIB]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("1", ["cuda:1"]),
        ("GPU-aa", ["cuda:0"]),
        ("1, 0", ["cuda:0", "cuda:1"]),
        ("", []),
        ("-1", []),
        ("7", []),
    ],
)
def test_only_what_the_user_lets_be_seen(driver: Driver, visible: str, expected: list[str]) -> None:
    """`CUDA_VISIBLE_DEVICES` by number or by UUID; ids stay those of the machine."""
    assert [probe.look(()).id for probe in find_nvidia(visible=visible)[0]] == expected


def test_windows_tells_no_figures_by_process(driver: Driver) -> None:
    """Under WDDM each is NOT_AVAILABLE: then none is told, and the sums are."""
    driver.gpus[0].compute = {100: NOT_AVAILABLE}
    device = find_nvidia()[0][0].look(())
    assert (device.processes, device.used_bytes, device.trouble) == (None, 3 * GIB, "")


@pytest.mark.parametrize("code", [_NOT_SUPPORTED, _NO_PERMISSION])
def test_a_driver_that_may_not_tell_of_processes(driver: Driver, code: int) -> None:
    """Not supported (WSL2), or not for this user: the sums are told all the same."""
    driver.gpus[0].errors["graphics"] = code
    device = find_nvidia()[0][0].look(())
    assert (device.processes, device.free_bytes) == (None, 5 * GIB)


def test_a_device_that_does_not_answer_keeps_its_figures(driver: Driver) -> None:
    """The error is told in words; with the next answer it is forgotten."""
    probe = find_nvidia()[0][0]
    probe.look(())
    driver.gpus[0].errors["memory"] = _UNKNOWN
    device = probe.look(())
    assert (device.trouble, device.free_bytes, device.total_bytes) == ("NVML: Unknown Error", None, 8 * GIB)
    assert device.budget_bytes == 8 * GIB - _MARGIN
    assert str(device).endswith("; NVML: Unknown Error")
    driver.gpus[0].errors.clear()
    assert probe.look(()).trouble == ""


def test_a_lost_device_has_no_budget(driver: Driver) -> None:
    """Nothing can be put on it until it is started again."""
    probe = find_nvidia()[0][0]
    probe.look(())
    driver.gpus[0].errors["*"] = _GPU_IS_LOST
    device = probe.look(())
    assert (device.budget_bytes, device.trouble) == (0, "NVML: GPU is lost")


def test_a_lost_device_does_not_hide_the_others(driver: Driver) -> None:
    """The driver cannot even name it; the second is found."""
    driver.gpus[0].errors["handle"] = _GPU_IS_LOST
    assert [probe.look(()).id for probe in find_nvidia()[0]] == ["cuda:1"]


def test_a_device_whose_memory_is_the_machines(driver: Driver) -> None:
    """GB10 and Jetson have none of their own, and say so with NOT_SUPPORTED."""
    driver.gpus[0].errors["memory"] = _NOT_SUPPORTED
    device = find_nvidia()[0][0].look(())
    assert device.shares_memory
    assert device.total_bytes == machine_memory().total_bytes


def test_instances_of_a_divided_gpu_are_devices() -> None:
    """With MIG on the whole computes nothing; each instance has memory and a UUID of its own."""
    parts = [Gpu(10 * GIB, uuid="MIG-a"), None, Gpu(20 * GIB, GIB, uuid="MIG-b")]
    with installed(Driver([Gpu(80 * GIB, name="NVIDIA H100", instances=list(parts))])):
        found = [probe.look(()) for probe in find_nvidia()[0]]
    assert [(each.id, each.total_bytes, each.uuid) for each in found] == [
        ("cuda:0.0", 10 * GIB, "MIG-a"),
        ("cuda:0.2", 20 * GIB, "MIG-b"),
    ]
    assert found[1].name == "NVIDIA H100, MIG"
    assert found[1].variables == {"CUDA_VISIBLE_DEVICES": "MIG-b"}


def test_the_library_is_let_go_of(driver: Driver) -> None:
    """As often as it was asked for; a second close does no harm, and looking afterwards is told, not raised."""
    probes, _ = find_nvidia()
    assert driver.references == 2
    for probe in [*probes, probes[0]]:
        probe.close()
    assert driver.references == 0
    assert probes[0].look(()).trouble == "NVML: Uninitialized"


def test_no_driver_is_nothing_to_tell(no_driver_file: Path) -> None:
    """Most machines have no library; when the driver is loaded all the same, that is told."""
    for code in (_LIBRARY_NOT_FOUND, _DRIVER_NOT_LOADED):
        with installed(Driver([], errors={"nvmlInitWithFlags": code})):
            assert find_nvidia() == ([], "")
    no_driver_file.touch()
    with installed(Driver([], errors={"nvmlInitWithFlags": _LIBRARY_NOT_FOUND})):
        assert find_nvidia() == ([], "NVIDIA's driver does not answer: NVML Shared Library Not Found.")


@pytest.mark.parametrize("call", ["nvmlInitWithFlags", "nvmlSystemGetDriverVersion", "nvmlDeviceGetCount_v2"])
def test_a_driver_that_does_not_answer_is_told(call: str) -> None:
    """After an update without a restart library and driver differ: the rest of the machine works on."""
    with installed(Driver([Gpu(GIB)], errors={call: _MISMATCH})) as driver:
        probes, note = find_nvidia()
        assert driver.references == 0
    assert probes == []
    assert note == "NVIDIA's driver does not answer: RM has detected an NVML/RM version mismatch."


def test_without_the_python_face(no_driver_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is optional; only where there is a driver is a user told what is missing."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert find_nvidia() == ([], "")
    no_driver_file.touch()
    probes, note = find_nvidia()
    assert probes == []
    assert 'pip install "xprim-nb[gpu]"' in note
