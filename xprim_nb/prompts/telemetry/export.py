"""Calls told outside of this package: to OpenTelemetry as they end, or to a collector long after.

Nothing is told unless somebody says where to, and of what was asked and answered not a word unless they say so too.

    kit.prompts.export_to("http://localhost:4318").result()    # a collector that takes OTLP over HTTP
    kit.prompts.export_to().result()                           # whatever this process has configured: logfire, an SDK

Source: spec 6 §Telemetry ("export optional"); OpenTelemetry protocol 1.x (OTLP/HTTP, `/v1/traces`).
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from xprim_nb.config import mask_url
from xprim_nb.errors import ConfigError, MissingExtraError, NetworkError
from xprim_nb.prompts.asked import Asked, Passed
from xprim_nb.prompts.caches import redacted_answer
from xprim_nb.prompts.redaction import Redactor
from xprim_nb.prompts.telemetry import otel
from xprim_nb.prompts.telemetry.records import Record

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import TracerProvider

__all__ = ["Export", "send"]

# A collector that does not answer holds up the end of a kernel for no longer; it is asked in between, and not waited for.
_TIMEOUT_S: Final = 5.0
# As many spans as OpenTelemetry's own processor sends at once.
_AT_ONCE: Final = 512
_PATH: Final = "/v1/traces"


class Export:
    """Tells each call that ends as a span. Owns its connection to a collector until `close`.

    Args:
        where: URL of a collector, or who makes spans; None for whatever this process has configured.
        redact: Takes secrets out of answers.
        content: Whether what was asked and answered is told too.

    Raises:
        MissingExtraError: What that needs is not installed.
        ConfigError: It is no URL, or this process has configured nothing.
    """

    def __init__(
        self, where: str | TracerProvider | None, *, redact: Redactor, content: bool = False
    ) -> None:
        self._redact, self._content = redact, content
        self._end: Callable[[], object] | None = None
        if isinstance(where, str):
            provider = _provider(where)
            self._provider, self._end = provider, provider.shutdown
        else:
            self._provider = where or _configured()

    def told(self, passed: Passed, record: Record) -> None:
        """A call that is over, with its record as it may leave this process."""
        if not record.is_sent:
            return
        more = otel.parameters(passed.asked)
        if self._content:
            result = passed.result
            answer = redacted_answer(result.answer, self._redact) if isinstance(result, Asked) else None
            more |= otel.content(passed.asked, answer)
        otel.export(record, provider=self._provider, more=more)

    def close(self) -> None:
        """Send what waits, as far as the collector takes it, and leave it; somebody else's provider is left alone."""
        if self._end is not None:
            self._end()


def send(records: Iterable[Record], where: str = "") -> int:
    """Tell a collector of calls that are recorded; a call that is sent again is the same span.

    Args:
        records: What is no call is left out.
        where: URL of the collector; when empty, that of OpenTelemetry's own settings (`OTEL_EXPORTER_OTLP_ENDPOINT`),
            which are `http://localhost:4318` where nobody set them.

    Returns:
        How many spans the collector took.

    Raises:
        MissingExtraError: The extra `otel` is not installed.
        ConfigError: It is no URL.
        NetworkError: The collector cannot be reached, or refuses them.
    """
    exporter, ids = _exporter(where), _Ids()
    spans: list[ReadableSpan] = []
    provider = _sdk().TracerProvider(
        resource=_resource(), shutdown_on_exit=False, id_generator=ids, sampler=_all_of_them()
    )
    provider.add_span_processor(_gathering(spans))
    try:
        for record in records:
            ids.of = record
            otel.export(record, provider=provider)
        for start in range(0, len(spans), _AT_ONCE):
            taken = exporter.export(spans[start : start + _AT_ONCE])
            if taken.name != "SUCCESS":
                raise NetworkError(
                    f"The collector{f' at {mask_url(where)}' if where else ''} took "
                    f"{start:,} of {len(spans):,} calls.",
                    subject=mask_url(where) or "OTEL_EXPORTER_OTLP_ENDPOINT",
                    hint="See whether it listens there, and takes OTLP over HTTP; sent again, a call is the same span.",
                )
    finally:
        exporter.shutdown()
    return len(spans)


class _Ids:
    """Ids of spans by what they tell of: who sends a call twice has sent one."""

    of: Record

    def generate_trace_id(self) -> int:
        return int.from_bytes(self._digest()[:16]) or 1

    def generate_span_id(self) -> int:
        return int.from_bytes(self._digest()[16:24]) or 1

    def is_trace_id_random(self) -> bool:
        return False

    def _digest(self) -> bytes:
        each = self.of
        return hashlib.sha256(f"{each.at_s!r} {each.request} {each.latency_s!r}".encode()).digest()


def _configured() -> TracerProvider:
    """What this process has configured.

    Raises:
        ConfigError: Nothing, so that each call would be told to nobody.
    """
    try:
        from opentelemetry import trace  # noqa: PLC0415  # an optional package
    except ImportError as error:
        raise MissingExtraError.for_extra("otel", "Telling calls to OpenTelemetry") from error
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):
        raise ConfigError(
            "This process has configured nobody who collects spans.",
            subject="export_to",
            hint="Name a collector, as export_to('http://localhost:4318'), or set OpenTelemetry up before.",
        )
    return provider


def _provider(where: str) -> Any:  # noqa: ANN401  # an SDK's provider, of an optional package
    """One that sends to a collector, in the background."""
    exporter = _exporter(where)
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415  # an optional package

    provider = _sdk().TracerProvider(resource=_resource(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _exporter(where: str) -> Any:  # noqa: ANN401  # of an optional package
    try:
        # By its name: a check of types needs no collector.
        room = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ImportError as error:
        raise MissingExtraError.for_extra("otel", "Sending calls to a collector") from error
    return room.OTLPSpanExporter(_address(where) if where else None, timeout=_TIMEOUT_S)


def _address(where: str) -> str:
    """The address that takes traces: a collector's own is enough.

    >>> _address("http://localhost:4318"), _address("https://lab.example/otlp/v1/traces")
    ('http://localhost:4318/v1/traces', 'https://lab.example/otlp/v1/traces')
    """
    parts = urlsplit(where)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"{mask_url(where)!r:.100} is no address of a collector.",
            subject="export_to",
            hint="Write it as http://localhost:4318.",
        )
    return where if parts.path.strip("/") else parts._replace(path=_PATH).geturl()


def _sdk() -> Any:  # noqa: ANN401  # of an optional package
    try:
        from opentelemetry.sdk import trace  # noqa: PLC0415  # an optional package
    except ImportError as error:
        raise MissingExtraError.for_extra("otel", "Sending calls to a collector") from error
    return trace


def _resource() -> Any:  # noqa: ANN401  # of an optional package
    """Who tells: as the user named it in OpenTelemetry's settings, or this package."""
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415  # an optional package

    found = Resource.create()
    is_named = not str(found.attributes.get(SERVICE_NAME, "")).startswith("unknown_service")
    return found if is_named else found.merge(Resource({SERVICE_NAME: "xprim-nb"}))


def _all_of_them() -> Any:  # noqa: ANN401  # of an optional package
    """What somebody wants sent is sent, whatever is drawn from what goes on."""
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON  # noqa: PLC0415  # an optional package

    return ALWAYS_ON


def _gathering(spans: list[ReadableSpan]) -> Any:  # noqa: ANN401  # of an optional package
    from opentelemetry.sdk.trace import SpanProcessor  # noqa: PLC0415  # an optional package

    class Gathering(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            spans.append(span)

    return Gathering()
