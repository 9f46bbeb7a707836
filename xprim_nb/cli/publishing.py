"""The commands of whoever gives models away: `publish`, `serve`, `export`.

Source: spec 1 §Publisher, §Manager (`export`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from xprim_nb.cli import documents, words
from xprim_nb.cli.boundary import DoorCommand, pass_session
from xprim_nb.cli.progress import live_bar
from xprim_nb.cli.refs import named_each, versioned
from xprim_nb.cli.session import Session
from xprim_nb.errors import NotInstalledError
from xprim_nb.refs import ModelRef

if TYPE_CHECKING:
    from xprim_nb.cache.values import Exported
    from xprim_nb.manager import Manager
    from xprim_nb.registry.publisher import PublishProgress

__all__ = ["export", "publish", "serve"]

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_TARGET = click.Path(file_okay=False, path_type=Path)


@click.command(cls=DoorCommand)
@click.argument("folder", metavar="DIR", type=_FOLDER)
@click.argument("ref")
@click.argument("version", required=False)
@click.option(
    "--to", type=_TARGET, required=True, metavar="DIR", help="The registry's directory; it is created."
)
@click.option(
    "--alias", multiple=True, metavar="NAME", help="A further name for the version, such as latest."
)
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="What the registry shall say about it.")
@click.option("--chunk-size", type=click.IntRange(1), metavar="BYTES", help="The longest a chunk may be.")
@click.option(
    "--mode",
    type=click.Choice(["aligned", "fixed"]),
    default="aligned",
    show_default=True,
    help="Cut at files and tensors, so that versions share chunks, or at equal lengths.",
)
@click.option("--replace", is_flag=True, help="Let a published version name other bytes than it does now.")
@pass_session
def publish(
    session: Session,
    folder: Path,
    ref: str,
    version: str | None,
    *,
    to: Path,
    alias: tuple[str, ...],
    metadata: tuple[str, ...],
    chunk_size: int | None,
    mode: str,
    replace: bool,
) -> None:
    """Put the files of DIR into a registry directory, under a version."""
    from xprim_nb.registry import chunking, publisher  # noqa: PLC0415  # house: 0.2 s that `--help` spares

    wanted = versioned(ref, version)
    with live_bar(session) as bar:

        def hear(news: PublishProgress) -> None:
            if bar is not None:
                shown, task = bar
                done = f"Publishing: {news.chunks_completed}/{news.chunks_total} chunks"
                shown.update(task, total=news.bytes_total, completed=news.bytes_completed, description=done)

        published = publisher.publish(
            folder,
            wanted,
            to=to,
            alias=alias,
            metadata=_metadata(metadata),
            chunk_size=chunk_size or chunking.DEFAULT_CHUNK_BYTES,
            mode="fixed" if mode == "fixed" else "aligned",
            replace=replace,
            progress=hear,
        )
    files, chunks = words.count(published.files, "file"), words.count(published.chunks_total, "chunk")
    sizes = f"{words.size(published.total_size)}, {files}, {chunks}, {words.size(published.bytes_new)} new"
    lines = [
        f"Published: {published.ref} ({sizes})",
        *(f"Alias: {published.ref.name} {name} → {published.ref.version}" for name in published.aliases),
        f"Registry: {to.absolute()}",
    ]
    session.answer({"published": documents.plain(published)}, *lines)
    if published.skipped:
        session.note(f"left out: {', '.join(published.skipped)}")


def _metadata(pairs: tuple[str, ...]) -> dict[str, str] | None:
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE.", param_hint="--metadata")
        found[key] = value
    return found or None


@click.command(cls=DoorCommand)
@click.argument("folder", metavar="DIR", type=_FOLDER)
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 lets other machines in.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one."
)
@pass_session
def serve(session: Session, folder: Path, *, host: str, port: int) -> None:
    """Serve a registry directory over HTTP until Ctrl-C."""
    from xprim_nb.registry import serving  # noqa: PLC0415  # house: as above

    def ready(url: str) -> None:
        session.answer(
            {"serving": {"directory": str(folder.absolute()), "url": url}},
            f"Serving {folder.absolute()} at {url}",
        )
        session.note("Ctrl-C ends it")
        session.flush()

    try:
        serving.serve(folder, host, port, ready=ready)
    except KeyboardInterrupt:  # how a server ends
        session.note("stopped")


@click.command(cls=DoorCommand, short_help="Make a registry directory from installed models.")
@click.argument("refs", metavar="REF...", nargs=-1, required=True)
@click.option(
    "--to", type=_TARGET, required=True, metavar="DIR", help="The registry's directory; it is created."
)
@pass_session
def export(session: Session, refs: tuple[str, ...], *, to: Path) -> None:
    """Make a registry directory from installed models, with local bytes only.

    REF is group/model for all its versions, or group/model@version, or group/model and a version.
    """
    wanted = named_each(refs)
    exported = session.run(lambda manager: _export(manager, wanted, to))
    lines = [f"Exported: {each}" for each in exported.refs]
    written = f"{words.count(exported.chunks_written, 'chunk')}, {words.size(exported.bytes_written)} written"
    session.answer({"exported": documents.plain(exported)}, *lines, f"Registry: {exported.to} ({written})")
    for note in exported.notes:
        session.note(note)


async def _export(manager: Manager, refs: list[ModelRef], to: Path) -> Exported:
    models = await manager.list_installed()
    wanted: list[ModelRef] = []
    for ref in refs:
        versions = [each.ref for each in models if each.ref.name == ref.name]
        if not ref.version and not versions:
            raise NotInstalledError(f"No version of {ref} is installed.", subject=str(ref))
        wanted += [ref] if ref.version else versions
    return await manager.export(wanted, to=to)
