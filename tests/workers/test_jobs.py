"""The layouts that Windows is handed, and that nothing is done elsewhere."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from xprim_nb.workers import jobs


@pytest.mark.skipif(ctypes.sizeof(ctypes.c_void_p) != 8, reason="the sizes are those of a 64-bit Windows")
def test_the_structures_have_the_sizes_of_winnt_h() -> None:
    """JOBOBJECT_BASIC_LIMIT_INFORMATION has 64 bytes and the extended one 144, with the memory limit at 120."""
    assert ctypes.sizeof(jobs._BasicLimits) == 64
    assert ctypes.sizeof(jobs._ExtendedLimits) == 144
    assert jobs._BasicLimits.LimitFlags.offset == 16
    assert jobs._ExtendedLimits.JobMemoryLimit.offset == 120


def test_the_limits_say_what_they_should() -> None:
    """Kill on close always, and memory where there is a limit."""
    assert jobs._limits(None).BasicLimitInformation.LimitFlags == 0x2000
    limited = jobs._limits(5 << 30)
    assert limited.BasicLimitInformation.LimitFlags == 0x2200
    assert limited.JobMemoryLimit == 5 << 30


@pytest.mark.skipif(sys.platform == "win32", reason="there it has one")
def test_elsewhere_there_is_no_job() -> None:
    """A process outside of Windows is in none."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        assert jobs.hold(process) is None
