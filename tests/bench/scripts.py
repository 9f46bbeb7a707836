"""The peers that are programs: scripts and lists by which curl, aria2c and the C loop pull the corpus.

Every script runs in an empty target directory, leaves the model in `model/`, verifies every chunk's SHA-256,
and keeps the chunk files (deleting them would only make it slower). Nothing is fsynced unless `sync` asks.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from .corpus import Corpus, Segment
from .servers import Server

CAT_ARGUMENTS = 500  # chunk names per `cat`: 36 kB, far below any limit on a command line
HASH_ARGUMENTS = 16  # chunks per process: its output stays below a pipe's atomic write of 4096 bytes

COMPARE = """awk '{ sub("^.*/", "", $2); if ($1 != $2) { print "wrong digest: " $2; bad = 1 } n++ }
END { exit bad || n != WANTED }'"""


class MissingToolError(RuntimeError):
    """A program, a header or a package that a case needs is not here; the message says which."""


def need(*programs: str) -> None:
    """Raise MissingToolError unless all the programs are installed."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise MissingToolError(f"{', '.join(missing)} not installed")


def write_curl(
    corpus: Corpus, server: Server, script: Path, *, verify: str | None, jobs: int, sync: bool
) -> Path:
    """Write the script: `curl -Z` of all chunks, their verification, then `cat` into the files.

    Args:
        corpus: what is pulled.
        server: from where.
        script: where to write it; its lists go beside it and are the same for every target.
        verify: a program that prints `DIGEST NAME`, run by `xargs -P2` (a chunk's name is its digest, so each
            line of output is compared with itself); None for one `sha256sum -c`.
        jobs: parallel transfers.
        sync: fsync the files at the end.
    """
    need("curl", verify.split()[0] if verify else "sha256sum")
    lines = [f"url = {server.url}/data/{c.name}\noutput = chunks/{c.name}" for c in corpus.chunks]
    names, trust = (
        script.with_suffix(".list"),
        f"--cacert {shlex.quote(str(server.ca_file))} " if server.ca_file else "",
    )
    names.write_text("\n".join(lines) + "\n")
    fetch = f"curl -q -sS --fail -Z --parallel-max {jobs} {trust}-K {shlex.quote(str(names))}"
    if verify is None:
        sums = script.with_suffix(".sha256")
        sums.write_text("".join(f"{chunk.name}  chunks/{chunk.name}\n" for chunk in corpus.chunks))
        check = f"sha256sum -c --quiet --strict {shlex.quote(str(sums))}"
    else:
        distinct = len({chunk.name for chunk in corpus.chunks})
        compare = COMPARE.replace("WANTED", str(distinct))
        check = f"find chunks -type f -print0 | xargs -0 -P2 -n{HASH_ARGUMENTS} {verify} | {compare}"
    return _write_script(script, ["mkdir chunks model", fetch, check, *_cat(corpus), *_sync(sync)])


def write_aria2c(corpus: Corpus, server: Server, work: Path, *, jobs: int, sync: bool) -> Path:
    """Write the script: aria2c with a checksum per chunk, then `cat` into the files."""
    need("aria2c")
    names = work / "aria2c.list"
    names.write_text(
        "".join(
            f"{server.url}/data/{c.name}\n out={c.name}\n checksum=sha-256={c.sha256}\n"
            for c in corpus.chunks
        )
    )
    trust = f"--ca-certificate={shlex.quote(str(server.ca_file))} " if server.ca_file else ""
    # falloc is aria2c's cheapest way here: a tenth less CPU time than none, and the default is no faster
    fetch = (
        f"aria2c --no-conf -q -j{jobs} -d chunks --file-allocation=falloc --auto-file-renaming=false "
        f"--summary-interval=0 {trust}-i {shlex.quote(str(names))}"
    )
    return _write_script(work / "aria2c.sh", ["mkdir chunks model", fetch, *_cat(corpus), *_sync(sync)])


def write_plan(corpus: Corpus, server: Server, work: Path) -> Path:
    """Write the list of files and chunks that `c_loop.c` reads."""
    places: list[list[Segment]] = [[] for _ in corpus.chunks]
    for segment in corpus.segments():
        places[segment.chunk].append(segment)
    lines = [f"{server.host} {server.port}", f"FILES {len(corpus.files)}"]
    lines += [f"{file.size_bytes} {file.name}" for file in corpus.files]
    lines.append(f"CHUNKS {len(corpus.chunks)}")
    for chunk, segments in zip(corpus.chunks, places, strict=True):
        where = " ".join(f"{s.file} {s.file_offset_bytes} {s.length_bytes}" for s in segments)
        lines.append(f"{chunk.name} {chunk.size_bytes} {len(segments)} {where}")
    plan = work / "c_loop.plan"
    plan.write_text("\n".join(lines) + "\n")
    return plan


def compile_c_loop(work: Path) -> Path:
    """Compile `c_loop.c` and return the program.

    Raises:
        MissingToolError: no C compiler or no OpenSSL headers, with what to install.
    """
    need("cc")
    source, program = Path(__file__).with_name("c_loop.c"), work / "c_loop"
    argv = ["cc", "-O2", "-pthread", str(source), "-o", str(program), "-lssl", "-lcrypto"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        hint = (
            "the OpenSSL headers are missing (Debian: apt-get install libssl-dev)"
            if "openssl/" in done.stderr
            else ""
        )
        raise MissingToolError(hint or f"cc failed: {done.stderr.strip()[-500:]}")
    return program


def _cat(corpus: Corpus) -> Iterable[str]:
    """One group per file: whole chunks by `cat`, the chunks at its ends by `tail -c` and `head -c`."""
    parts: list[list[str]] = [[] for _ in corpus.files]
    for segment in corpus.segments():
        chunk, commands = corpus.chunks[segment.chunk], parts[segment.file]
        path, start = f"chunks/{chunk.name}", segment.chunk_offset_bytes
        if start == 0 and segment.length_bytes == chunk.size_bytes:
            if commands and commands[-1].startswith("cat ") and commands[-1].count(" ") < CAT_ARGUMENTS:
                commands[-1] += f" {path}"
            else:
                commands.append(f"cat {path}")
        elif start == 0:
            commands.append(f"head -c {segment.length_bytes} {path}")
        elif start + segment.length_bytes == chunk.size_bytes:
            commands.append(f"tail -c +{start + 1} {path}")
        else:
            commands.append(f"tail -c +{start + 1} {path} | head -c {segment.length_bytes}")
    for file, commands in zip(corpus.files, parts, strict=True):
        yield f"{{ {'; '.join(commands)}; }} > model/{shlex.quote(file.name)}"


def _sync(wanted: bool) -> list[str]:
    return ["sync model/* model"] if wanted else []


def _write_script(path: Path, commands: Iterable[str]) -> Path:
    path.write_text("\n".join(["set -eu", *commands]) + "\n")
    return path
