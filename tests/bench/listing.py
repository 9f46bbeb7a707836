"""The listing benchmark: many installed models go in, the seconds of `list_installed()` come out.

With an interpreter that has huggingface_hub, an equal tree in its cache format is listed by `scan_cache_dir`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .servers import REPO

GROUP_SIZE = 100  # models per group, as in a registry with some order
INSTALLED_AT = "2025-01-01T00:00:00Z"
PEER_CALLS = 3  # a scan takes seconds
TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Listing:
    """The seconds of successive calls in one fresh process; the first is apart because it may fill caches."""

    name: str
    models: int
    calls_s: tuple[float, ...]

    def line(self) -> str:
        """The result for people."""
        later = self.calls_s[1:] or self.calls_s
        return (
            f"{self.name:40} {self.models:6} models   first {self.calls_s[0] * 1e3:9.2f} ms   "
            f"then {statistics.median(later) * 1e3:9.2f} ms ({min(later) * 1e3:.2f}-{max(later) * 1e3:.2f})"
        )


def run_list(
    root: Path, models: int, calls: int, python: str, hf_python: str
) -> tuple[list[Listing], list[str]]:
    """Make the trees if they are missing, time the calls, and return the results and why any are missing."""
    base, cache = ensure_base(root.resolve(), models), ensure_hf_cache(root.resolve(), models)
    for derived in base.glob("state.sqlite*"):  # the first process must not profit from an earlier run
        derived.unlink()
    child, peer = (
        [python, "-m", "tests.bench.list_child", str(base), str(calls)],
        "huggingface_hub scan_cache_dir",
    )
    scan = [
        hf_python,
        "-I",
        str(Path(__file__).with_name("hf_child.py")),
        "scan",
        str(cache),
        str(PEER_CALLS),
    ]
    wanted = {
        "list_installed, nothing derived yet": child,
        "list_installed, in a later process": child,
        peer: scan,
    }
    results, skipped = [], []
    for name, argv in wanted.items():
        done = subprocess.run(argv, cwd=REPO, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        if done.returncode != 0:
            skipped.append(f"{name}: {done.stderr.strip().splitlines()[-1:] or done.returncode}")
            continue
        answer = json.loads(done.stdout)
        if answer["models"] != models:
            skipped.append(f"{name}: FAILED, it lists {answer['models']} models instead of {models}")
            continue
        results.append(Listing(name, models, tuple(answer["calls_s"])))
    return results, skipped


def ensure_base(root: Path, models: int) -> Path:
    """Return a base directory with that many tiny but whole installed models, made once."""
    base = root / f"installed-{models}"
    registry = base / "registry.json"
    if registry.exists():
        return base
    shutil.rmtree(base, ignore_errors=True)
    index: dict[str, dict[str, dict[str, object]]] = {}
    for group, model, files in _models(models):
        stream = b"".join(files.values())
        manifest = {
            "total_size": len(stream),
            "chunk_size": 10_485_760,
            "chunks": [hashlib.sha256(stream).hexdigest()],
            "files": [{"path": name, "size": len(body)} for name, body in files.items()],
        }
        raw = json.dumps(manifest).encode()
        home = base / group / model / "v1"
        (home / ".xprim").mkdir(parents=True)
        (home / ".xprim" / "manifest.json").write_bytes(raw)
        for name, body in files.items():
            (home / name).write_bytes(body)
        index.setdefault(group, {})[model] = {
            "v1": {
                "manifest_hash": hashlib.sha256(raw).hexdigest(),
                "total_size": len(stream),
                "file_count": len(files),
                "installed_at": INSTALLED_AT,
            }
        }
    registry.write_text(json.dumps(index, indent=2))  # last: its presence means that all is there
    return base


def ensure_hf_cache(root: Path, models: int) -> Path:
    """Return the same models as a Hugging Face cache: blobs, a snapshot of links, and a ref; made once."""
    cache = root / f"hf-cache-{models}"
    complete = root / f"hf-cache-{models}.complete"
    if complete.exists():
        return cache
    shutil.rmtree(cache, ignore_errors=True)
    for group, model, files in _models(models):
        home = cache / f"models--{group}--{model}"
        commit = hashlib.sha1(f"{group}/{model}".encode(), usedforsecurity=False).hexdigest()
        for folder in ("blobs", "refs", f"snapshots/{commit}"):
            (home / folder).mkdir(parents=True)
        (home / "refs" / "main").write_text(commit)
        for name, body in files.items():
            digest = hashlib.sha256(body).hexdigest()
            (home / "blobs" / digest).write_bytes(body)
            (home / "snapshots" / commit / name).symlink_to(f"../../blobs/{digest}")
    complete.touch()
    return cache


def _models(count: int) -> Iterator[tuple[str, str, dict[str, bytes]]]:
    for number in range(count):
        group, model = f"group-{number // GROUP_SIZE:03}", f"model-{number:05}"
        weights = hashlib.sha256(model.encode()).digest() * 4
        yield group, model, {"model.bin": weights, "config.json": json.dumps({"name": model}).encode()}
