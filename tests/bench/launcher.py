"""Run one command and write what it cost as JSON: `python -I -S launcher.py RESULT COMMAND…`.

A separate, small process on purpose. A child's `ru_maxrss` starts at the size of the process that spawned it,
so a child of the benchmark itself would never look smaller than the benchmark; this program is about 8 MB,
which is the floor of the figure. It stands between the benchmark and the command, so its own `/proc/self/io`
grows by what the command's whole tree wrote: the kernel adds a child's counters to those of its parent when
the child is waited for.
"""

from __future__ import annotations

import os
import sys
import time


def written_bytes() -> int:
    """Bytes that this process and its ended children made dirty in files; -1 where the kernel hides them."""
    try:
        with open("/proc/self/io", encoding="ascii") as file:
            fields = dict(line.split(": ") for line in file.read().splitlines())
    except OSError:
        return -1
    return int(fields["write_bytes"])


def main() -> int:
    """Run the command, write the result, and pass the command's exit status on."""
    result, command = sys.argv[1], sys.argv[2:]
    before_bytes, started_s = written_bytes(), time.monotonic()
    pid = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    wall_s = time.monotonic() - started_s
    after_bytes = written_bytes()
    # ru_oublock is the same counter in units of 512 bytes, for kernels that hide /proc/self/io
    written = after_bytes - before_bytes if before_bytes >= 0 else usage.ru_oublock * 512
    code = os.waitstatus_to_exitcode(status)
    with open(result, "w", encoding="ascii") as file:
        file.write(
            f'{{"wall_s": {wall_s!r}, "cpu_s": {usage.ru_utime + usage.ru_stime!r}, '
            f'"peak_rss_bytes": {usage.ru_maxrss * 1024}, "written_bytes": {written}}}'
        )
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
