"""The health benchmarks: a status of many models beside `scan_cache_dir`, a full verification beside two tools.

Cases take turns, so that what else the machine does meets each of them; read the ratios, not the seconds.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xprim_nb._text import format_bytes

from .corpus import ensure as ensure_corpus
from .listing import ensure_base, ensure_hf_cache
from .servers import REPO

TIMEOUT_S = 1800.0
# The targets of the specification: how many times faster than the peer.
STATUS_IN_PROCESS, STATUS_FRESH = 60.0, 15.0
VERIFY_SHA256SUM, VERIFY_OPENSSL = 3.0, 1.0
_REF = "bench/model v1"
_CALLS = 5  # of ours in one process; the first fills caches


@dataclass(slots=True)
class HealthResult:
    """What one benchmark measured.

    Attributes:
        verb: `status` or `verify`.
        facts: What it was run on.
        seconds: For each case, one figure a round.
        targets: For each pair of ours and a peer, how many times faster ours should be.
        skipped: Cases that could not run, with the reason; a reason with FAILED is a failure.
    """

    verb: str
    facts: dict[str, str]
    seconds: dict[str, list[float]] = field(default_factory=dict)
    targets: dict[tuple[str, str], float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def speeds(self) -> dict[str, tuple[float, float]]:
        """For each pair that ran, the median of the rounds' ratios, and the target."""
        found = {}
        for (ours, peer), target in self.targets.items():
            if self.seconds.get(ours) and self.seconds.get(peer):
                ratios = [b / a for a, b in zip(self.seconds[ours], self.seconds[peer], strict=False)]
                found[f"{ours} : {peer}"] = (statistics.median(ratios), target)
        return found

    def text(self) -> str:
        """The result for people."""
        lines = [f"{name}: {value}" for name, value in self.facts.items()]
        for name, values in self.seconds.items():
            lines.append(
                f"{name:44} {statistics.median(values) * 1e3:10.1f} ms "
                f"({min(values) * 1e3:.1f}-{max(values) * 1e3:.1f})"
            )
        for pair, (speed, target) in self.speeds().items():
            lines.append(
                f"{pair}: {speed:.1f} times as fast (target {target:.0f}, {'met' if speed >= target else 'MISSED'})"
            )
        return "\n".join([*lines, *(f"skipped {reason}" for reason in self.skipped)])

    def document(self) -> dict[str, object]:
        """The same as one JSON document."""
        speeds = {pair: {"speed": speed, "target": target} for pair, (speed, target) in self.speeds().items()}
        return {
            "verb": self.verb,
            "facts": self.facts,
            "seconds": self.seconds,
            "speeds": speeds,
            "skipped": self.skipped,
        }


def run_status(root: Path, models: int, rounds: int, python: str, hf_python: str) -> HealthResult:
    """Time a status of that many models, every one with a verdict, and `scan_cache_dir` on an equal tree."""
    root = root.resolve()
    base, cache = ensure_base(root, models), ensure_hf_cache(root, models)
    result = HealthResult("status", {"models": str(models), "rounds": str(rounds), "python": python})
    child = [python, "-m", "tests.bench.status_child", str(base)]
    light = [python, "-m", "tests.bench.glance_child", str(base)]
    filled = root / f"installed-{models}.validated"
    if not filled.exists() or not (base / "state.sqlite").exists():
        if _child([*child, "fill"]).get("models") != models:
            result.skipped.append("FAILED: not every model could be validated")
            return result
        filled.touch()
    scan = [hf_python, "-I", str(Path(__file__).with_name("hf_child.py")), "scan", str(cache)]
    ours, peer = "status", "scan_cache_dir"
    result.targets = {
        (f"{ours}, in process", f"{peer}, in process"): STATUS_IN_PROCESS,
        (f"{ours}, fresh process", f"{peer}, fresh process"): STATUS_FRESH,
    }
    for _ in range(rounds):
        _measure(result, ours, [*child, str(_CALLS)], [*light, "1"], models)
        _measure(result, peer, [*scan, "1"], [*scan, "1"], models)
    return result


def _measure(
    result: HealthResult, name: str, several: Sequence[str], one: Sequence[str], models: int
) -> None:
    """One round of one case: the calls in one process, and a whole process with one call, imports included."""
    try:
        answer = _child(several)
        started_s = time.perf_counter()
        again = _child(one)
        fresh_s = time.perf_counter() - started_s
    except RuntimeError as error:
        _skip(result, f"{name}: {error}")
        return
    if answer["models"] != models or again["models"] != models:
        _skip(result, f"{name}: FAILED, it tells of {answer['models']} models instead of {models}")
        return
    result.seconds.setdefault(f"{name}, in process", []).append(statistics.median(answer["calls_s"]))
    result.seconds.setdefault(f"{name}, fresh process", []).append(fresh_s)


def run_verify(root: Path, size_gib: float, rounds: int, python: str) -> HealthResult:
    """Time a full verification of an installed model, and the tools on the same files."""
    root = root.resolve()
    corpus = ensure_corpus(root, int(size_gib * 1024**3))
    base = root / f"verify-{corpus.total_bytes}"
    cores = os.cpu_count() or 1
    result = HealthResult(
        "verify",
        {
            "size": format_bytes(corpus.total_bytes),
            "cores": str(cores),
            "rounds": str(rounds),
            "python": python,
        },
    )
    model = base / "bench" / "model" / "v1"
    if not (base / "registry.json").exists():
        pull = "import sys; from tests.bench.health import install; install(*sys.argv[1:])"
        _child([python, "-c", pull, str(corpus.www), str(base)])
    child = [python, "-m", "tests.bench.verify_child", str(base), _REF]
    paths = [str(model / file.name) for file in corpus.files]
    cases: dict[str, Callable[[], float]] = {
        "validate full, in process": functools.partial(_last, [*child, "2"]),
        "validate full, fresh process": functools.partial(_wall, [*child, "1"]),
    }
    for tool, words in (("sha256sum", ["sha256sum"]), ("openssl", ["openssl", "dgst", "-sha256"])):
        if shutil.which(tool) is None:
            result.skipped.append(f"{tool}: not installed")
            continue
        argv = ["xargs", "-0", f"-P{cores}", "-n1", *words]
        cases[f"xargs -P{cores} {' '.join(words)}"] = functools.partial(_wall, argv, "\0".join(paths))
        target = VERIFY_SHA256SUM if tool == "sha256sum" else VERIFY_OPENSSL
        result.targets["validate full, in process", f"xargs -P{cores} {' '.join(words)}"] = target
    for name in list(cases):
        cases[name]()  # once unmeasured: all files are in the page cache for everybody
    for _ in range(rounds):
        for name, case in cases.items():
            result.seconds.setdefault(name, []).append(case())
    return result


def install(www: str, base: str) -> None:
    """Pull the corpus from its own directory; in a process of its own, because it imports what is measured."""
    import asyncio

    from xprim_nb import Config, Manager

    async def pull() -> None:
        async with Manager(Config(app_name="xprim", registry_url=www, data_dir=Path(base))) as manager:
            await manager.pull(_REF)

    asyncio.run(pull())
    print(json.dumps({"installed": base}))


def _child(argv: Sequence[str]) -> dict[str, Any]:
    done = subprocess.run(argv, cwd=REPO, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or [str(done.returncode)])[-1])
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _last(argv: Sequence[str]) -> float:
    seconds: float = _child(argv)["calls_s"][-1]
    return seconds


def _wall(argv: Sequence[str], names: str = "") -> float:
    started_s = time.perf_counter()
    subprocess.run(
        argv, cwd=REPO, input=names, text=True, stdout=subprocess.DEVNULL, timeout=TIMEOUT_S, check=True
    )
    return time.perf_counter() - started_s


def _skip(result: HealthResult, reason: str) -> None:
    if reason not in result.skipped:
        result.skipped.append(reason)
