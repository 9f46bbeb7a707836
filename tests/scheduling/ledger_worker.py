"""One kernel in a process of its own, for tests that kill it or set several against each other.

python ledger_worker.py DIRECTORY play SEED     reserve and release at random until it is `enough`, then print what came
                                                of it as JSON
python ledger_worker.py DIRECTORY hold          reserve, start a worker, say both, and wait for a line
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from xprim_nb.scheduling.leases import Lease
from xprim_nb.scheduling.ledger import Ledger
from xprim_nb.scheduling.state import DeviceState

BUDGET = 100
ENOUGH = "enough"
"""A file beside the ledger's directory; who plays goes on until it is there, however slow the machine is."""

# Reserved and refused, of each player.
_LEAST = 10
_DEVICES = [DeviceState("cpu", 10 * BUDGET), DeviceState("gpu", BUDGET)]
_WAIT = "import signal, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint(flush=True)\nsignal.pause()"


def _play(ledger: Ledger, enough: Path, seed: int) -> dict[str, object]:
    dice, held, spans, refused = random.Random(seed), list[Lease](), list[float](), 0
    while not enough.exists() or min(refused, len(spans) - refused) < _LEAST:
        if held and dice.random() < 0.5:
            lease = held.pop(dice.randrange(len(held)))
            if lease.state != "reserved":
                ledger.advance(lease.id, "releasing")
            ledger.release(lease.id)
            continue
        size = dice.randint(1, BUDGET // 2)
        begun = time.perf_counter()
        found = ledger.reserve("numpy:m", (("cpu", size), ("gpu", size)), _DEVICES)
        spans.append(time.perf_counter() - begun)
        if not isinstance(found, Lease):
            refused += 1
            continue
        if dice.random() < 0.5:
            found = ledger.advance(found.id, "loading")
        held.append(found)
        # Models are held for a while: without it whoever is first keeps the file to itself.
        time.sleep(dice.random() / 500)
    for lease in held:
        if lease.state != "reserved":
            ledger.advance(lease.id, "releasing")
        ledger.release(lease.id)
    some = spans[:: len(spans) // 1000 + 1]  # what a pipe holds while nobody reads
    return {"reserved": len(spans) - refused, "refused": refused, "spans": [round(span, 7) for span in some]}


def _hold(ledger: Ledger) -> None:
    lease = ledger.reserve("numpy:m", (("gpu", BUDGET),), _DEVICES)
    assert isinstance(lease, Lease)
    worker = subprocess.Popen([sys.executable, "-c", _WAIT], stdout=subprocess.PIPE, start_new_session=True)
    assert worker.stdout is not None
    worker.stdout.readline()
    ledger.advance(lease.id, "loading", worker=worker.pid)
    print(json.dumps({"lease": lease.id, "worker": worker.pid}), flush=True)
    sys.stdin.readline()


def main() -> None:
    """See the module's docstring."""
    directory, what, *rest = sys.argv[1:]
    ledger = Ledger(Path(directory))
    if what == "hold":
        _hold(ledger)
        return
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(_play(ledger, Path(directory).with_name(ENOUGH), int(rest[0]))), flush=True)
    ledger.close()


if __name__ == "__main__":
    main()
