"""What every test may rely on: a clean environment, a home of its own, and no network beyond loopback.

The home is laid out when pytest starts, before a test module is imported: the subprocesses and kernels that
tests start inherit it. The network guard itself is pytest-socket, switched on in `pyproject.toml`.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
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
_HOME_KEY = pytest.StashKey[Path]()

# A failure must mean the same everywhere: no deadline that a busy machine misses, always the same examples.
settings.register_profile("ci", deadline=None, derandomize=True, database=None)
# For a person who is looking for trouble: --hypothesis-profile=explore.
settings.register_profile("explore", deadline=None, max_examples=2_000)
settings.load_profile("ci")


def pytest_configure(config: pytest.Config) -> None:
    """Give this run an empty home and forget the settings of whoever started it."""
    home = Path(tempfile.mkdtemp(prefix="xprim-tests-"))
    config.stash[_HOME_KEY] = home
    for name in list(os.environ):
        if (name.startswith("XPRIM_") or name.endswith("_MODELS_DIR")) and name not in _KEPT:
            del os.environ[name]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts background jobs so, and what they start would never hear an interrupt.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name, folder in _HOME_VARIABLES.items():
        (home / folder).mkdir(mode=0o700, exist_ok=True)  # a runtime directory must be private to be believed
        os.environ[name] = str(home / folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Take the home away again."""
    if _HOME_KEY in config.stash:
        shutil.rmtree(config.stash[_HOME_KEY], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lift the network guard for the tests that ask for the internet by name."""
    for item in items:
        if item.get_closest_marker("network"):
            item.add_marker(pytest.mark.enable_socket)
