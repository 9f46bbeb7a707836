"""The door of the benchmarks: `python -m tests.bench pull …`, `… list …`, `… status …`, `… verify …`,
`… update …`, `… engine`, `… prompts-cache …`, `… prompts-checkpoints`."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from . import report
from .cases import BUILDERS, PLAIN, TLS, default_hf_python
from .engine import run_engine, with_equal_threads
from .health import HealthResult, run_status, run_verify
from .listing import run_list
from .prompts_cache import run_prompts_cache
from .pull import PullOptions, default_root, run_pull, say
from .update import run_update


def _interpreter(name: str) -> str:
    """An absolute path that keeps a virtual environment's link: cases run in other directories."""
    return str(Path(shutil.which(name) or name).absolute())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    pull = verbs.add_parser(
        "pull", help="compare a whole pull with a C loop, curl, aria2c and huggingface_hub"
    )
    pull.add_argument("--size-gib", type=float, default=2.0, help="size of the model (default %(default)s)")
    pull.add_argument(
        "--rounds", type=int, default=5, help="runs of each case, in turn (default %(default)s)"
    )
    pull.add_argument(
        "--cases", help=f"comma-separated, of: {', '.join(BUILDERS)} (default: {','.join(PLAIN)})"
    )
    pull.add_argument("--tls", action="store_true", help=f"serve HTTPS (default cases: {','.join(TLS)})")
    pull.add_argument("--server", choices=("auto", "nginx", "python"), default="auto")
    pull.add_argument("--concurrency", type=int, default=4, help="connections (default %(default)s)")
    pull.add_argument("--sync-peers", action="store_true", help="count an fsync against curl and aria2c too")
    lists = verbs.add_parser("list", help="time list_installed() with many installed models")
    lists.add_argument("--models", type=int, default=10_000, help="installed models (default %(default)s)")
    lists.add_argument("--calls", type=int, default=9, help="calls in one process (default %(default)s)")
    status = verbs.add_parser("status", help="time status() with many models beside scan_cache_dir")
    status.add_argument("--models", type=int, default=10_000, help="installed models (default %(default)s)")
    verify = verbs.add_parser("verify", help="time a full verification beside sha256sum and openssl")
    verify.add_argument("--size-gib", type=float, default=2.0, help="size of the model (default %(default)s)")
    for verb in (status, verify):
        verb.add_argument("--rounds", type=int, default=5, help="of all cases, in turn (default %(default)s)")
    update = verbs.add_parser("update", help="compare a refresh that has 90 % here with fetching all")
    update.add_argument("--size-gib", type=float, default=2.0, help="size of the model (default %(default)s)")
    update.add_argument("--rounds", type=int, default=3, help="runs of each case (default %(default)s)")
    update.add_argument("--server", choices=("auto", "nginx", "python"), default="auto")
    engine = verbs.add_parser("engine", help="time dispatch, first token, idling and paging of models")
    prompts = verbs.add_parser(
        "prompts-cache", help="time a cached answer beside LangChain's and diskcache's"
    )
    prompts.add_argument("--answers", type=int, default=2000, help="kept answers (default %(default)s)")
    prompts.add_argument(
        "--look-ups", type=int, default=10_000, help="of each store, in turn (default %(default)s)"
    )
    checkpoints = verbs.add_parser(
        "prompts-checkpoints", help="time and weigh checkpoints beside LangGraph's savers"
    )
    checkpoints.add_argument(
        "--steps", type=int, default=300, help="steps of the thread (default %(default)s)"
    )
    for verb in (pull, lists, status, verify, update, engine, prompts, checkpoints):
        verb.add_argument(
            "--root", type=Path, help="a directory on a real disk, kept (default: in the temp dir)"
        )
        verb.add_argument("--json", action="store_true", help="one JSON document on stdout")
        verb.add_argument(
            "--python", type=_interpreter, default=sys.executable, help="interpreter that has xprim_nb"
        )
        verb.add_argument(
            "--hf-python",
            type=_interpreter,
            default=default_hf_python(),
            help="interpreter that has huggingface_hub",
        )
    return parser


def _pull(arguments: argparse.Namespace, root: Path) -> int:
    chosen = arguments.cases.split(",") if arguments.cases else TLS if arguments.tls else PLAIN
    unknown = sorted(set(chosen) - set(BUILDERS))
    if unknown:
        say(f"unknown cases: {', '.join(unknown)}; there are {', '.join(BUILDERS)}")
        return 2
    options = PullOptions(
        size_gib=arguments.size_gib,
        rounds=arguments.rounds,
        cases=tuple(chosen),
        tls=arguments.tls,
        server=arguments.server,
        python=arguments.python,
        hf_python=arguments.hf_python,
        concurrency=arguments.concurrency,
        sync_peers=arguments.sync_peers,
    )
    try:
        result = run_pull(options, root)
    except (OSError, RuntimeError) as error:
        say(f"error: {error}")
        return 1
    print(json.dumps(report.document(result), indent=1) if arguments.json else report.text(result))
    return 1 if result.failed else 0


def _list(arguments: argparse.Namespace, root: Path) -> int:
    results, skipped = run_list(
        root, arguments.models, arguments.calls, arguments.python, arguments.hf_python
    )
    if arguments.json:
        print(json.dumps({"results": [asdict(result) for result in results], "skipped": skipped}, indent=1))
    else:
        print(
            "\n".join([*(result.line() for result in results), *(f"skipped {reason}" for reason in skipped)])
        )
    return 1 if any("FAILED" in reason for reason in skipped) else 0


def _health(arguments: argparse.Namespace, root: Path) -> int:
    result: HealthResult
    if arguments.verb == "status":
        result = run_status(root, arguments.models, arguments.rounds, arguments.python, arguments.hf_python)
    else:
        result = run_verify(root, arguments.size_gib, arguments.rounds, arguments.python)
    print(json.dumps(result.document(), indent=1) if arguments.json else result.text())
    return 1 if any("FAILED" in reason for reason in result.skipped) else 0


def _update(arguments: argparse.Namespace, root: Path) -> int:
    try:
        result = run_update(root.resolve(), arguments.size_gib, arguments.rounds, arguments.server)
    except (OSError, RuntimeError) as error:
        say(f"error: {error}")
        return 1
    print(json.dumps(result.document(), indent=1) if arguments.json else result.text())
    return 0


def _engine(arguments: argparse.Namespace, root: Path) -> int:
    equal = with_equal_threads()
    if equal is not None:
        return subprocess.run(
            [sys.executable, "-m", "tests.bench", *sys.argv[1:]], env=equal, check=False
        ).returncode
    result = run_engine(root.resolve())
    print(json.dumps(result.document(), indent=1) if arguments.json else result.text())
    return 0


def _prompts_cache(arguments: argparse.Namespace, root: Path) -> int:
    result = run_prompts_cache(root.resolve(), arguments.answers, arguments.look_ups)
    print(json.dumps(result.document(), indent=1) if arguments.json else result.text())
    return 1 if result.failed else 0


def _checkpoints(arguments: argparse.Namespace, root: Path) -> int:
    # Needs packages that the other benchmarks do without.
    from .checkpoints import run_checkpoints

    with tempfile.TemporaryDirectory(prefix="xprim-checkpoints-", dir=root) as folder:
        result = run_checkpoints(Path(folder), arguments.steps)
    print(json.dumps(result.document(), indent=1) if arguments.json else result.text())
    return 0


def main() -> int:
    """Run the benchmark that the command line names and return its exit status."""
    arguments = _parser().parse_args()
    root = arguments.root or default_root()
    root.mkdir(parents=True, exist_ok=True)
    runs = {
        "pull": _pull,
        "list": _list,
        "status": _health,
        "verify": _health,
        "update": _update,
        "engine": _engine,
        "prompts-cache": _prompts_cache,
        "prompts-checkpoints": _checkpoints,
    }
    return runs[arguments.verb](arguments, root)


if __name__ == "__main__":
    sys.exit(main())
