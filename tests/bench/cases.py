"""Who pulls: each name becomes a `Case`, a command for any target directory, or a reason why not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .corpus import COMMIT, REPOSITORY, VERSION, Corpus
from .measure import Command
from .scripts import MissingToolError, compile_c_loop, write_aria2c, write_curl, write_plan
from .servers import REPO, Server

BLOCK_BYTES = (
    1 << 18
)  # of the C loop: 128 and 256 KiB cost a fifth less CPU time than 1 MiB (it leaves the L2 cache)
PLAIN = ("xprim", "xprim-inprocess", "c-loop", "curl", "aria2c", "hf", "hf-durable")
TLS = ("xprim", "xprim-inprocess", "c-loop", "curl-xargs", "aria2c", "hf", "hf-durable")


@dataclass(frozen=True, slots=True)
class Setting:
    """What all cases of one run share; `work` holds scripts and lists, and outlives every target."""

    corpus: Corpus
    server: Server
    work: Path
    python: str
    hf_python: str
    concurrency: int
    sync_peers: bool


@dataclass(frozen=True, slots=True)
class Case:
    """A way to pull: `command` and `installed` are functions of the target directory."""

    name: str
    what: str
    durable: bool
    command: Callable[[Path], Command]
    installed: Callable[[Path], Path]
    self_measured: bool = False


def build(name: str, setting: Setting) -> Case:
    """Return the case of that name, with its scripts written and its programs compiled.

    Raises:
        MissingToolError: something that the case needs is not installed.
    """
    return BUILDERS[name](setting)


def _trust(setting: Setting) -> Mapping[str, str]:
    return {"SSL_CERT_FILE": str(setting.server.ca_file)} if setting.server.ca_file else {}


def _can_import(python: str, module: str) -> bool:
    code = f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is None)"
    try:
        return (
            subprocess.run([python, "-c", code], cwd=REPO, capture_output=True, check=False).returncode == 0
        )
    except OSError:
        return False


def _model_folder(target: Path) -> Path:
    return target / REPOSITORY / VERSION


def _xprim(setting: Setting) -> Case:
    if not _can_import(setting.python, "xprim_nb.cli.models"):
        raise MissingToolError(f"{setting.python} cannot import xprim_nb.cli.models")
    options = ("--registry", setting.server.url, "--quiet")
    pull = ("pull", REPOSITORY, VERSION, "--concurrency", str(setting.concurrency))
    argv = (setting.python, "-m", "xprim_nb.cli.models", *options, *pull)
    return Case(
        "xprim",
        "the command, interpreter start included",
        True,
        lambda target: Command(argv, REPO, {**_trust(setting), "XPRIM_MODELS_DIR": str(target)}),
        _model_folder,
    )


def _xprim_inprocess(setting: Setting) -> Case:
    if not _can_import(setting.python, "xprim_nb"):
        raise MissingToolError(f"{setting.python} cannot import xprim_nb")
    argv = (setting.python, "-m", "tests.bench.inprocess", setting.server.url)
    return Case(
        "xprim-inprocess",
        "Manager.pull in a process that has imported everything; only the pull is measured",
        True,
        lambda target: Command((*argv, str(target), str(setting.concurrency)), REPO, _trust(setting)),
        _model_folder,
        self_measured=True,
    )


def _c_loop(setting: Setting) -> Case:
    program, plan = compile_c_loop(setting.work), write_plan(setting.corpus, setting.server, setting.work)
    trust = (str(setting.server.ca_file),) if setting.server.ca_file else ()
    numbers = (str(setting.concurrency), str(BLOCK_BYTES))
    return Case(
        "c-loop",
        f"C, {setting.concurrency} threads: recv, SHA-256, pwrite in place",
        True,
        lambda target: Command((str(program), str(plan), str(target), *numbers, *trust), target),
        lambda target: target,
    )


def _script(name: str, what: str, script: Path, setting: Setting) -> Case:
    argv = ("sh", str(script))
    return Case(
        name, what, setting.sync_peers, lambda target: Command(argv, target), lambda target: target / "model"
    )


def _curl(name: str, verify: str | None) -> Callable[[Setting], Case]:
    def build_curl(setting: Setting) -> Case:
        script = write_curl(
            setting.corpus,
            setting.server,
            setting.work / f"{name}.sh",
            verify=verify,
            jobs=setting.concurrency,
            sync=setting.sync_peers,
        )
        checked = f"xargs -P2 {verify}" if verify else "sha256sum -c"
        return _script(
            name, f"curl -Z --parallel-max {setting.concurrency} + {checked} + cat", script, setting
        )

    return build_curl


def _aria2c(setting: Setting) -> Case:
    script = write_aria2c(
        setting.corpus, setting.server, setting.work, jobs=setting.concurrency, sync=setting.sync_peers
    )
    return _script("aria2c", f"aria2c -j{setting.concurrency} with checksums + cat", script, setting)


def _hf(verb: str, what: str) -> Callable[[Setting], Case]:
    def build_hf(setting: Setting) -> Case:
        if not _can_import(setting.hf_python, "huggingface_hub"):
            raise MissingToolError(
                f"{setting.hf_python} cannot import huggingface_hub (name one with --hf-python)"
            )
        version_code = "import huggingface_hub as h; print(h.__version__)"
        version = subprocess.run(
            [setting.hf_python, "-c", version_code], capture_output=True, text=True, check=True
        ).stdout.strip()
        child = str(Path(__file__).with_name("hf_child.py"))
        switches = ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS")
        env = {**_trust(setting), **dict.fromkeys(switches, "1"), "HF_ENDPOINT": setting.server.url}
        folder = f"models--{REPOSITORY.replace('/', '--')}"
        return Case(
            verb.replace("snapshot", "hf"),
            f"huggingface_hub {version} snapshot_download, its default workers; it verifies no SHA-256{what}",
            verb == "snapshot-durable",
            lambda target: Command(
                (setting.hf_python, "-I", child, verb, str(target / "hub")),
                target,
                {**env, "HF_HOME": str(target / "home")},
            ),
            lambda target: target / "hub" / folder / "snapshots" / COMMIT,
        )

    return build_hf


BUILDERS: Mapping[str, Callable[[Setting], Case]] = {
    "xprim": _xprim,
    "xprim-inprocess": _xprim_inprocess,
    "c-loop": _c_loop,
    "curl": _curl("curl", None),
    "curl-xargs": _curl("curl-xargs", "sha256sum"),
    "curl-openssl": _curl("curl-openssl", "openssl dgst -sha256 -r"),
    "aria2c": _aria2c,
    "hf": _hf("snapshot", ""),
    "hf-durable": _hf("snapshot-durable", "; then fsync of its files"),
}


def default_hf_python() -> str:
    """The interpreter tried for `hf` when none is named: `$HF_PYTHON`, else the one that runs this."""
    return os.environ.get("HF_PYTHON", sys.executable)
