"""The commands that change nothing: `list`, `info`, `path`, `peek`.

Source: seeds/002 §CLI Command Interface; spec 1 §Manager (`peek`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from xprim_nb.cli import documents, words
from xprim_nb.cli.boundary import DoorCommand, pass_session
from xprim_nb.cli.refs import model_arguments, versioned
from xprim_nb.cli.session import Session
from xprim_nb.errors import NotInstalledError
from xprim_nb.refs import ModelRef

if TYPE_CHECKING:
    from xprim_nb.cache.values import InstalledModel, Peeked, RemoteDetail
    from xprim_nb.manager import Manager
    from xprim_nb.registry.manifest import FileEntry

__all__ = ["info", "list_models", "path", "peek"]

# The seed's tables, which are wider than their headings ask for.
_COLUMNS = (15, 9, 11, 11)


@click.command("list", cls=DoorCommand)
@click.option("--remote", is_flag=True, help="What the registry has, instead of what is installed.")
@pass_session
def list_models(session: Session, *, remote: bool) -> None:
    """List installed models, or what the registry has."""
    if remote:
        _list_remote(session)
    else:
        _list_installed(session)


def _list_installed(session: Session) -> None:
    models = session.run(lambda manager: manager.list_installed())
    rows = [
        (
            each.ref.group,
            each.ref.model,
            each.ref.version,
            words.size(each.total_size),
            words.date(each.installed_at),
        )
        for each in models
    ]
    lines = words.table(("GROUP", "MODEL", "VERSION", "SIZE", "INSTALLED"), rows, _COLUMNS)
    session.answer({"models": [documents.installed(each) for each in models]}, *lines)
    if not models:
        session.note(f"nothing is installed yet; `{session.program} list --remote` shows what there is")


def _list_remote(session: Session) -> None:
    session.announce_registry()
    listing = session.run(lambda manager: manager.list_remote())
    for notice in listing.notices:
        session.warn(notice.message)
    rows = [
        (each.ref.group, each.ref.model, each.ref.version, words.size(each.total_size), each.alias_of or "")
        for each in listing
    ]
    headers: tuple[str, ...] = ("GROUP", "MODEL", "VERSION", "SIZE", "ALIAS OF")
    if not any(row[-1] for row in rows):  # the seed's four columns
        headers, rows = headers[:4], [row[:4] for row in rows]  # type: ignore[misc]  # one column less
    document = {
        "models": [documents.plain(each) for each in listing],
        "source": listing.source,
        "age_s": listing.age_s,
        "stale": listing.stale,
    }
    session.answer(document, *words.table(headers, rows, _COLUMNS))
    if not rows:
        session.note(f"{listing.source} lists no models")


@click.command(cls=DoorCommand)
@model_arguments
@click.option("--remote", is_flag=True, help="What the registry says of it.")
@pass_session
def info(session: Session, ref: str, version: str | None, *, remote: bool) -> None:
    """Show one version in detail."""
    wanted = versioned(ref, version)
    if remote:
        session.announce_registry()
        _info_remote(session, wanted)
    else:
        _info_installed(session, wanted)


def _info_installed(session: Session, ref: ModelRef) -> None:
    async def ask(manager: Manager) -> tuple[InstalledModel, tuple[FileEntry, ...]]:
        return await manager.get_installed(ref), await manager.list_files(ref)

    model, files = session.run(ask)
    facts = {
        "Model": str(model.ref),
        "Status": "Installed",
        "Size": words.size(model.total_size),
        "Files": str(model.file_count),
        "Installed": words.stamp(model.installed_at),
        "Path": str(model.path),
    }
    document = {**documents.installed(model), "status": "installed", "files": documents.plain(files)}
    session.answer({"model": document}, *_facts(facts), *_file_lines(files))


def _info_remote(session: Session, ref: ModelRef) -> None:
    async def ask(manager: Manager) -> tuple[RemoteDetail, InstalledModel | None]:
        detail = await manager.get_remote_detail(ref)
        try:
            return detail, await manager.get_installed(ref)
        except NotInstalledError:
            return detail, None

    detail, model = session.run(ask)
    if model is None:
        status, shown = "available", "Available (not installed)"
    elif model.manifest_hash == detail.manifest_hash:
        status, shown = "installed", "Installed"
    else:
        status, shown = "update_available", "Installed (update available)"
    facts = {"Model": str(detail.ref), "Status": shown}
    if detail.alias_of:
        facts["Alias of"] = detail.alias_of
    facts |= {
        "Size": words.size(detail.total_size),
        "Chunks": f"{detail.chunk_count} × {words.short_size(detail.chunk_size)}",
        "Files": str(len(detail.files)),
    }
    # Indented, so that what a publisher wrote in several lines cannot pass for ours.
    told = [f"  {key}: {_shown(value)}".replace("\n", "\n    ") for key, value in detail.metadata.items()]
    metadata = ["", "Metadata:", *told]
    document = {**documents.plain(detail), "status": status}
    session.answer(
        {"model": document},
        *_facts(facts),
        *_file_lines(detail.files),
        *(metadata if detail.metadata else []),
    )


def _shown(value: object) -> str:
    return value if isinstance(value, str) else str(documents.plain(value))


def _facts(facts: Mapping[str, str]) -> list[str]:
    return [f"{name + ':':<14}{value}" for name, value in facts.items()]


def _file_lines(files: Iterable[FileEntry]) -> list[str]:
    listed = list(files)
    width = max((len(each.path) for each in listed), default=0) + 4
    return ["", "Files:", *(f"  {each.path:<{width}}{words.size(each.size)}" for each in listed)]


@click.command(cls=DoorCommand)
@model_arguments
@pass_session
def path(session: Session, ref: str, version: str | None) -> None:
    """Print the directory of an installed version, for scripts."""
    wanted = versioned(ref, version)
    found = session.run(lambda manager: manager.path(wanted))
    session.answer({**documents.reference(wanted), "path": str(found)})
    if not session.as_json:
        words.say(str(found), raw=True)


@click.command(cls=DoorCommand)
@model_arguments
@click.option("--tensors", is_flag=True, help="List every tensor.")
@pass_session
def peek(session: Session, ref: str, version: str | None, *, tensors: bool) -> None:
    """Judge a version by its headers, without pulling it."""
    wanted = versioned(ref, version)
    session.announce_registry()
    found = session.run(lambda manager: manager.peek(wanted))
    facts = {
        "Model": str(found.ref),
        "Size": words.size(found.total_size),
        "Parameters": f"{found.parameters:,}",
        "Tensors": ", ".join(f"{dtype} {words.size(size)}" for dtype, size in found.dtypes.items())
        or "none found",
        "Read": words.size(found.bytes_read),
    }
    document = {**documents.plain(found), "parameters": found.parameters, "dtypes": found.dtypes}
    session.answer({"peeked": document}, *_facts(facts), *_tensor_lines(found, each_one=tensors))


def _tensor_lines(found: Peeked, *, each_one: bool) -> list[str]:
    lines: list[str] = []
    for name, file in found.tensor_files.items():
        lines += ["", f"{name}: {words.count(len(file.tensors), 'tensor')}"]
        if each_one:
            rows: list[tuple[Any, ...]] = [
                (
                    f"  {each.name}",
                    each.dtype,
                    "×".join(map(str, each.shape)) or "scalar",
                    words.size(each.size_bytes),
                )
                for each in file.tensors
            ]
            lines += words.table(("  TENSOR", "DTYPE", "SHAPE", "SIZE"), rows)
    return lines
