"""What models run on here, looked at part by part: devices, the ledger, backends, servers, keys.

Nothing is loaded and nothing is changed, but that workers which a dead kernel has left behind are ended. Each probe
blocks; `probing.ask` gives each a thread.

Source: spec 4 §Faces (`xprim ai doctor`), §Install on first use.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from xprim_nb._text import format_bytes, format_count
from xprim_nb.config import Config
from xprim_nb.config.capabilities import AICapabilities
from xprim_nb.errors import KeyRefusedError, MissingExtraError, OfflineError, XprimError
from xprim_nb.manager import Manager
from xprim_nb.manager.gpus import gpus
from xprim_nb.manager.library import ManagerLibrary
from xprim_nb.manager.probing import Probe, Said
from xprim_nb.scheduling.devices import find_probes
from xprim_nb.scheduling.ledger import Ledger
from xprim_nb.workers.contract import ENTRY_POINTS, BackendContext

__all__ = ["probes"]

# Whoever runs on this machine answers within milliseconds; a server elsewhere within this, or it is no use.
_SERVER_PATIENCE_S = 2.0
_PYTHON_PATIENCE_S = 2.0
_LIST = "import importlib.util, json, sys; print(json.dumps([n for n in sys.argv[1:] if not importlib.util.find_spec(n)]))"
# What a backend's workers import, and the extra that installs it.
_PACKAGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "numpy": ("", ("numpy", "safetensors")),
    "transformers": ("transformers", ("torch", "transformers", "accelerate", "peft")),
}
# What a backend imports in this process.
_SDKS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "anthropic": ("anthropic", ("anthropic",)),
    "openai": ("openai", ("openai",)),
}
# Without a key there is nobody to ask; the address has a default.
_WANT_KEYS: Mapping[str, str] = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}


def probes(config: Config) -> Mapping[str, Probe]:
    """One for each part."""
    settings = config.ai
    points = {each.name: each for each in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    named = dict.fromkeys(name for name in settings.endpoints if name not in points)
    return {
        "devices": partial(_devices, settings),
        "GPU": gpus,
        "ledger": partial(_ledger, settings),
        "limits": partial(_limits, settings),
        **{
            f"backend {name}": partial(_backend, config, name, point)
            for name, point in sorted({**points, **named}.items())
        },
    }


def _devices(settings: AICapabilities) -> Said:
    found = find_probes(max_vram_bytes=settings.max_vram_bytes, max_ram_bytes=settings.max_ram_bytes)
    try:
        looked = [each.look(()) for each in found.probes]
    finally:
        for each in found.probes:
            each.close()
    told = "; ".join([*map(str, looked), *found.notes])
    troubled = any(each.trouble for each in looked) or (bool(found.notes) and not looked)
    return "look at this" if troubled else "ok", told, ""


def _ledger(settings: AICapabilities) -> Said:
    ledger = Ledger(settings.ledger_dir)
    try:
        orphans, leases = ledger.reap(), ledger.leases()
        path = ledger.path
    finally:
        ledger.close()
    kernels = {each.kernel.pid for each in leases}
    told = f"{path}: {format_count(len(leases), 'model')} held"
    told += f" by {'one process' if len(kernels) == 1 else f'{len(kernels)} processes'}" if leases else ""
    ghosts = [each for each in leases if each.state == "ghost"]
    if orphans:
        names = ", ".join(sorted({each.model for each in orphans}))
        told += f"; what dead kernels had left behind was taken back: {names}"
    if ghosts:
        size = sum(each_size for each in ghosts for _, each_size in each.charges)
        told += f"; {format_bytes(size)} never came back from models that have ended"
        return (
            "look at this",
            told,
            "Another program holds it, or a worker hangs: `nvidia-smi` names processes.",
        )
    return "ok", told, ""


def _limits(settings: AICapabilities) -> Said:
    told = settings.told()
    shown = ("max_vram", "max_ram_per_worker", "max_concurrent_workers", "auto_install_models")
    python = settings.worker_python
    if python is not None and not Path(python).exists():
        return "broken", f"worker_python is {python}, which is not there", "Name an interpreter that exists."
    return "ok", "; ".join(f"{name}: {told[name]}" for name in shown), ""


def _backend(config: Config, name: str, point: importlib.metadata.EntryPoint | None) -> Said:
    missing, extra = _missing(config.ai, name)
    if missing:
        advice = MissingExtraError.for_extra(extra, name).hint if extra else "Install the package again."
        return "ok" if extra else "broken", f"not installed: {', '.join(missing)}", advice
    wanted = _WANT_KEYS.get(name)
    if wanted is not None and name not in config.ai.keys:
        return "ok", "no key is set", f"Set {wanted} in the environment, never in a notebook."
    if name == "openai_compatible" and name not in config.ai.endpoints:
        return (
            "ok",
            "no server is named",
            "XPRIM_OPENAI_COMPATIBLE_URL, or `%xprim config endpoint.NAME=URL`.",
        )
    return asyncio.run(_asked(config, name, point))


def _missing(settings: AICapabilities, name: str) -> tuple[Sequence[str], str]:
    """Packages that a backend needs and has not, where it needs them, and the extra that installs them."""
    extra, wanted = _PACKAGES.get(name, ("", ()))
    if wanted and settings.worker_python is not None:
        return _missing_there(settings.worker_python, wanted), extra
    if not wanted:
        extra, wanted = _SDKS.get(name, ("", ()))
    return [each for each in wanted if importlib.util.find_spec(each) is None], extra


def _missing_there(python: Path, wanted: Sequence[str]) -> list[str]:
    done = subprocess.run(
        [str(python), "-c", _LIST, *wanted],
        capture_output=True,
        check=True,
        text=True,
        timeout=_PYTHON_PATIENCE_S,
    )
    found: list[str] = json.loads(done.stdout)
    return found


async def _asked(config: Config, name: str, point: importlib.metadata.EntryPoint | None) -> Said:
    """Ask the server of a backend; one whose models run here is only loaded."""
    # Not entered: it opens nothing, and a server's backend asks for none of its models.
    library = ManagerLibrary(Manager(config))
    context = BackendContext(library, config.ai.endpoints, config.ai.keys, config.offline)
    backend: Any
    if point is None:
        module = importlib.import_module("xprim_nb.workers.backends.openai_compatible")
        backend = module.create_named(context, name)
    else:
        backend = point.load()(context)
    try:
        if not backend.capabilities.is_remote:
            return "ok", f"ready, in processes of {config.ai.worker_python or sys.executable}", ""
        return await _reached(backend, name in config.ai.endpoints, has_key=name in config.ai.keys)
    finally:
        await backend.aclose()


async def _reached(backend: Any, is_named: bool, *, has_key: bool) -> Said:  # noqa: ANN401  # a backend, or another's
    key = "a key is set" if has_key else "no key"
    listed = getattr(backend, "listed", None)
    if listed is None:  # another distribution's backend: what it recommends is all that can be asked of it
        return "ok", f"loaded, {key}", ""
    try:
        async with asyncio.timeout(_SERVER_PATIENCE_S):
            found = await listed()
    except TimeoutError:
        return (
            "broken",
            f"no answer within {_SERVER_PATIENCE_S:.0f} s, {key}",
            "Check its address, and that it runs.",
        )
    except OfflineError as error:
        return "ok", f"not asked: {error.message}", ""
    except KeyRefusedError as error:
        return "broken", f"{error.message} ({key})", error.hint
    except XprimError as error:
        if not (is_named or has_key):  # a server that nobody has named may well not be there
            return "ok", f"not running: {error.message}", ""
        return "broken", error.message, error.hint
    return "ok", f"answers, {format_count(len(found), 'model')}, {key}", ""
