"""Windows Job Objects: a worker and whatever it starts end with this process. Nothing elsewhere.

A process is in the job a moment after it started; a worker starts nothing of its own before it is told to load.

Source: spec 4 §Workers (Job Object on Windows); Microsoft, "Job Objects", JOBOBJECT_EXTENDED_LIMIT_INFORMATION.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys

__all__ = ["Job", "hold"]

_EXTENDED_LIMIT_INFORMATION = 9  # JobObjectExtendedLimitInformation
_LIMIT_JOB_MEMORY = 0x0200
_LIMIT_KILL_ON_JOB_CLOSE = 0x2000


class _BasicLimits(ctypes.Structure):
    """JOBOBJECT_BASIC_LIMIT_INFORMATION."""

    _fields_ = (
        ("PerProcessUserTimeLimit", ctypes.c_int64),
        ("PerJobUserTimeLimit", ctypes.c_int64),
        ("LimitFlags", ctypes.c_uint32),
        ("MinimumWorkingSetSize", ctypes.c_size_t),
        ("MaximumWorkingSetSize", ctypes.c_size_t),
        ("ActiveProcessLimit", ctypes.c_uint32),
        ("Affinity", ctypes.c_size_t),
        ("PriorityClass", ctypes.c_uint32),
        ("SchedulingClass", ctypes.c_uint32),
    )


class _ExtendedLimits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION; the six counters between are IO_COUNTERS."""

    _fields_ = (
        ("BasicLimitInformation", _BasicLimits),
        ("IoInfo", ctypes.c_uint64 * 6),
        ("ProcessMemoryLimit", ctypes.c_size_t),
        ("JobMemoryLimit", ctypes.c_size_t),
        ("PeakProcessMemoryUsed", ctypes.c_size_t),
        ("PeakJobMemoryUsed", ctypes.c_size_t),
    )


def _limits(limit_bytes: int | None) -> _ExtendedLimits:
    """All of them die when the last handle to the job is closed, which Windows does for a process that ends."""
    limits = _ExtendedLimits()
    limits.BasicLimitInformation.LimitFlags = _LIMIT_KILL_ON_JOB_CLOSE
    if limit_bytes is not None:
        limits.BasicLimitInformation.LimitFlags |= _LIMIT_JOB_MEMORY
        limits.JobMemoryLimit = limit_bytes
    return limits


class Job:
    """One Job Object and its handle.

    Args:
        process: What is put into it.

    Raises:
        OSError: Windows refused.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        if sys.platform == "win32":
            kernel = ctypes.WinDLL("kernel32", use_last_error=True)
            # Handles are as wide as pointers; without these, ctypes would cut them to an int.
            kernel.CreateJobObjectW.restype = ctypes.c_void_p
            kernel.CreateJobObjectW.argtypes = (ctypes.c_void_p, ctypes.c_wchar_p)
            kernel.SetInformationJobObject.argtypes = (
                ctypes.c_void_p,
                ctypes.c_int,
                ctypes.c_void_p,
                ctypes.c_uint32,
            )
            kernel.AssignProcessToJobObject.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
            kernel.TerminateJobObject.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
            kernel.CloseHandle.argtypes = (ctypes.c_void_p,)
            self._kernel = kernel
            self._handle: int | None = kernel.CreateJobObjectW(None, None)
            if not self._handle:
                raise ctypes.WinError(ctypes.get_last_error())
            try:
                self._set(None)
                # Popen keeps the handle of the process open for as long as it lives.
                if not kernel.AssignProcessToJobObject(self._handle, int(process._handle)):  # type: ignore[attr-defined]  # Windows only
                    raise ctypes.WinError(ctypes.get_last_error())
            except OSError:
                self.close()
                raise

    def _set(self, limit_bytes: int | None) -> None:
        if sys.platform == "win32":
            limits = _limits(limit_bytes)
            if not self._kernel.SetInformationJobObject(
                self._handle, _EXTENDED_LIMIT_INFORMATION, ctypes.byref(limits), ctypes.sizeof(limits)
            ):
                raise ctypes.WinError(ctypes.get_last_error())

    def limit(self, limit_bytes: int) -> None:
        """Let no allocation take all of it above this: the worker sees a MemoryError.

        Raises:
            OSError: Windows refused.
        """
        self._set(limit_bytes)

    def terminate(self) -> None:
        """End all that is in it."""
        if sys.platform == "win32" and self._handle:
            self._kernel.TerminateJobObject(self._handle, 1)

    def close(self) -> None:
        """Let go of the handle, and so end what is in it. Idempotent."""
        if sys.platform == "win32" and self._handle:
            self._kernel.CloseHandle(self._handle)
            self._handle = None


def hold(process: subprocess.Popen[bytes]) -> Job | None:
    """The job that a started process is put into; None where there are none. It is killed if that is refused.

    Raises:
        OSError: Windows refused.
    """
    if sys.platform != "win32":
        return None
    try:
        return Job(process)
    except OSError:
        process.kill()
        process.wait()
        raise
