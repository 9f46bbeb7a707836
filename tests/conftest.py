"""What every test may rely on: a clean environment, a home of its own, and no network beyond loopback.

Homes and temporary directories lie in memory where there is enough of it. The home is laid out when pytest starts,
before a test module is imported: the subprocesses and kernels that tests start inherit it. The network guard itself is
pytest-socket, switched on in `pyproject.toml`.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Switches of the test run itself, which are not settings of the package under test.
_KEPT = {"XPRIM_ARTEFACTS", "XPRIM_KERNELS", "XPRIM_REQUIRE_BROWSER"}
# Where a home, a config, a cache or a runtime directory is looked up, on any platform that CI runs on.
_HOME_VARIABLES = {
    "APPDATA": "roaming",
    "HOME": "",
    "IPYTHONDIR": "ipython",
    "JUPYTER_CONFIG_DIR": "jupyter-config",
    "JUPYTER_DATA_DIR": "jupyter-data",
    "JUPYTER_RUNTIME_DIR": "jupyter-runtime",
    "LOCALAPPDATA": "local",
    "USERPROFILE": "",
    "XDG_CACHE_HOME": "cache",
    "XDG_CONFIG_HOME": "config",
    "XDG_DATA_HOME": "data",
    "XDG_RUNTIME_DIR": "runtime",
    "XDG_STATE_HOME": "state",
}
_ROOT_KEY = pytest.StashKey[Path]()
# Killed processes lose nothing that they wrote, so memory is as good as a disk here. A disk takes milliseconds for each
# durable write, and some models' tests make hundreds; `--basetemp=DIR` has everything on a disk, where it is kept.
_MEMORY = Path("/dev/shm")
# Several times what the tests hold at once; a container's usual 64 MB would be full with the first real weights.
_MEMORY_BYTES = 2 << 30

# A failure must mean the same everywhere: no deadline that a busy machine misses, always the same examples.
settings.register_profile("ci", deadline=None, derandomize=True, database=None)
# For a person who is looking for trouble: --hypothesis-profile=explore.
settings.register_profile("explore", deadline=None, max_examples=2_000)
settings.load_profile("ci")


def pytest_configure(config: pytest.Config) -> None:
    """Give this run an empty home and forget the settings of whoever started it."""
    memory = _memory()
    root = Path(tempfile.mkdtemp(prefix="xprim-", dir=memory))
    config.stash[_ROOT_KEY] = root
    home = root / "home"
    home.mkdir(mode=0o700)
    if config.option.basetemp is None and memory is not None:  # a process of xdist is told its own
        config.option.basetemp = root / "tmp"
    for name in list(os.environ):
        if (name.startswith("XPRIM_") or name.endswith("_MODELS_DIR")) and name not in _KEPT:
            del os.environ[name]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts background jobs so, and what they start would never hear an interrupt.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name, folder in _HOME_VARIABLES.items():
        (home / folder).mkdir(mode=0o700, exist_ok=True)  # a runtime directory must be private to be believed
        os.environ[name] = str(home / folder)


def _memory() -> Path | None:
    """A file system in memory that is large enough, where there is one."""
    if not os.access(_MEMORY, os.W_OK) or shutil.disk_usage(_MEMORY).free < _MEMORY_BYTES:
        return None
    runs_programs = not os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC  # some tests write what they start
    return _MEMORY if runs_programs else None


def pytest_unconfigure(config: pytest.Config) -> None:
    """Take the home away again, and the directories of tests in memory."""
    if _ROOT_KEY in config.stash:
        shutil.rmtree(config.stash[_ROOT_KEY], ignore_errors=True)


def pytest_collection_finish() -> None:
    """What was imported and found so far stays to the end: the collector of garbage passes it by from now on."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """An empty directory on a disk, for what is otherwise in memory."""
    with tempfile.TemporaryDirectory(prefix="xprim-") as folder:
        yield Path(folder)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lift the network guard for the tests that ask for the internet by name."""
    for item in items:
        if item.get_closest_marker("network"):
            item.add_marker(pytest.mark.enable_socket)
