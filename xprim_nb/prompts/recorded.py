"""The part of the room's owner that counts: what was resolved, asked and saved, what it came to, and who else is told.

Source: spec 6 §Telemetry.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, get_args

from xprim_nb._threads import settled
from xprim_nb.errors import CheckpointNotFoundError, ConfigError, MissingExtraError
from xprim_nb.prompts.caches import Call
from xprim_nb.prompts.kept import KeptPrompts
from xprim_nb.prompts.pricing import Rates, rates
from xprim_nb.prompts.saves import SavingPrompts
from xprim_nb.prompts.telemetry import (
    Advice,
    Analysis,
    By,
    Record,
    Summary,
    Telemetry,
    analyze,
    led_by,
    optimize,
    record_of_saving,
)
from xprim_nb.prompts.telemetry.export import Export, send
from xprim_nb.prompts.values import JsonValue

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from xprim_nb.prompts.checkpoints.saved import Checkpoint, TreeNode

__all__ = ["RecordedPrompts"]

# A line of so many parents is longer than any work; the database walks it in a tenth of a second.
_LONGEST_LINE = 10_000


class RecordedPrompts(KeptPrompts, SavingPrompts):
    """The verbs of telemetry; see `Prompts`, which opens and closes what these need."""

    telemetry: Telemetry
    _export: Export | None = None

    async def save(
        self, scaffold: str, state: Mapping[str, JsonValue], name: str = "main", **how: Any
    ) -> Checkpoint:
        """See `CheckpointStore.save`; that it was done is recorded under the checkpoint's id."""
        at_s, began = self.caches.now(), time.perf_counter()
        try:
            saved = await super().save(scaffold, state, name, **how)
        except BaseException as error:
            took_s = time.perf_counter() - began
            self.telemetry.record(record_of_saving(scaffold, "", at_s, took_s, error=error))
            raise
        self.telemetry.record(record_of_saving(scaffold, saved.id, at_s, time.perf_counter() - began))
        return saved

    async def analyze(self, by: By = "provider", *, checkpoint: str | None = None) -> tuple[Summary, ...]:
        """What the calls came to: tokens, money, latency, and each cache's own share; the most tokens first.

        Args:
            by: What is put together: `provider`, `model`, `scaffold_type`, `checkpoint`, `operation` or `day`.
            checkpoint: Only what led to it, see `analysis`; everything when None.

        Raises:
            ConfigError: Calls cannot be put together by that.
            StorageError: The file cannot be read.
        """
        if by not in get_args(By):
            raise ConfigError(
                f"Calls cannot be put together by {by!r:.60}.",
                subject="by",
                hint=f"There are {', '.join(get_args(By))}.",
            )
        return (await self.analysis(checkpoint=checkpoint or "")).parts(by)

    async def analysis(self, *, checkpoint: str = "", scaffold: str = "", since_s: float = 0.0) -> Analysis:
        """All that was recorded, in sum and in parts; see `telemetry.analyze`.

        Args:
            checkpoint: Only what led to it: its id, the beginning of that, the branch that ends in it, or any name that
                calls were made under. What was recorded under its parents is part of that, until the next was saved.
            scaffold: Only this hash.
            since_s: Nothing that began earlier, in seconds since 1970.

        Raises:
            StorageError, DatabaseUnavailableError: What is kept cannot be read.
        """
        line = await self._line(checkpoint) if checkpoint else ()

        def read() -> Analysis:
            led = led_by(line, self.telemetry.checkpoints()) if line else {}
            of = {checkpoint, *led} if checkpoint else ()
            records = self.telemetry.records(checkpoints=of, scaffold=scaffold, since_s=since_s)
            return analyze(records, checkpoint=checkpoint, led=led, scaffold=scaffold, since_s=since_s)

        return await settled(read)

    async def optimize(self, last: int = 50) -> tuple[Advice, ...]:
        """What would have been better in the last calls of each model; see `telemetry.optimize`.

        Args:
            last: So many calls of each.

        Raises:
            StorageError: The file cannot be read.
        """
        calls = await self.calls()
        return await settled(lambda: optimize(calls, rates=_rates, last=last))

    # --- whom else it is told ---------------------------------------------------------------------

    async def export_to(self, where: str | TracerProvider | None = None, *, content: bool = False) -> None:
        """Tell OpenTelemetry each call from now on, as a span with the names of its GenAI conventions.

        A second call of this takes the place of the first. Hashes, names and numbers are told, without secrets.

        Args:
            where: URL of a collector that takes OTLP over HTTP, or an OpenTelemetry `TracerProvider`; None for the one
                that this process has configured.
            content: Tell what was asked and answered too, without secrets.

        Raises:
            MissingExtraError: The extra `otel` is not installed.
            ConfigError: It is no URL, or this process has configured nothing.
        """
        export = await settled(lambda: Export(where, redact=self._redactor, content=content))
        await self.stop_export()
        self._export, self.telemetry.on_record = export, export.told

    async def stop_export(self) -> None:
        """Tell nobody else any more; what waits to be sent is sent, if the collector takes it within seconds."""
        export, self._export, self.telemetry.on_record = self._export, None, None
        if export is not None:
            await settled(export.close)

    async def send_recorded(self, where: str = "", *, checkpoint: str = "", since_s: float = 0.0) -> int:
        """Tell a collector of the calls that are recorded; how many it took. See `telemetry.export.send`.

        Args:
            where: Its URL; when empty, that of OpenTelemetry's own settings.
            checkpoint: Only what led to it, see `analysis`.
            since_s: Nothing that began earlier, in seconds since 1970.

        Raises:
            MissingExtraError: The extra `otel` is not installed.
            ConfigError: It is no URL.
            NetworkError: The collector cannot be reached, or refuses them.
            StorageError: The file cannot be read.
        """
        records: tuple[Record, ...]
        if checkpoint:
            records = (await self.analysis(checkpoint=checkpoint, since_s=since_s)).steps
        else:
            records = await settled(lambda: self.telemetry.records(since_s=since_s))
        return await settled(send, records, where)

    async def _line(self, checkpoint: str) -> tuple[TreeNode, ...]:
        """A checkpoint and all that it follows, the last first; nothing where the word is none that the store knows."""
        if self._store is None and not self._database and not (self.folder / "checkpoints.sqlite").exists():
            return ()  # no analysis makes a database
        try:
            return await self.saved(_LONGEST_LINE, branch=checkpoint)
        except (CheckpointNotFoundError, ConfigError, MissingExtraError):
            # A name of calls alone, or one that several scaffolds have a branch of: then it is what the calls say.
            return ()


def _rates(call: Call) -> Rates | None:
    """List prices of the day of the call; None where nobody knows them."""
    at = datetime.fromtimestamp(call.at, UTC)
    try:
        found = rates(call.provider, call.model, at=at, input_tokens=sum(each.tokens for each in call.parts))
    except MissingExtraError:
        return None
    return None if isinstance(found, str) else found
