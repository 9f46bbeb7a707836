"""What it means when no answer came, in the same words whichever client carried the request.

Source: spec 1 §Client (retry on connection errors and timeouts; STYLE rule 6: foreign errors are translated once).
"""

from __future__ import annotations

import ssl

from xprim_nb.registry.sources.answers import refuse_status, shown_url
from xprim_nb.registry.sources.contract import SourceError, SourceStalledError

__all__ = ["failure"]

# Enough for any honest reason; a server that sends garbage does not fill the screen with it.
_LONGEST_REASON = 200


def failure(
    url: str,
    error: BaseException,
    *,
    stalled: bool = False,
    final: bool = False,
    proxy_status: int | None = None,
) -> SourceError:
    """The error to raise for a foreign one.

        1. A certificate that is not trusted is final: asking again would not make it trusted.
        2. A proxy's refusal is judged by its status, as a server's would be.
        3. Silence is a stall.
        4. All else is a bad line, and worth another try unless `final`.

    Args:
        url: What was asked for.
        error: What the client raised.
        stalled: It gave up waiting.
        final: The request itself cannot be sent.
        proxy_status: What a proxy answered when asked for a tunnel.
    """
    shown = shown_url(url)
    distrust = _distrust(error)
    if distrust is not None:  # 1
        return SourceError(
            f"{shown}: the server's certificate is not trusted ({distrust}).",
            subject=shown,
            retryable=False,
            hint="Set SSL_CERT_FILE or Config(verify=<CA bundle>) to your organisation's certificates.",
        )
    if proxy_status is not None:  # 2
        try:
            refuse_status(url, proxy_status, {})
        except SourceError as refused:
            refused.message = f"{shown}: the proxy answered {proxy_status}."
            refused.args = (refused.message,)
            refused.hint = (
                refused.hint if proxy_status == 407 else "Ask whoever runs the proxy, or set NO_PROXY."
            )
            return refused
    if stalled:  # 3
        return SourceStalledError(f"{shown}: nothing came for too long.", subject=shown)
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    printable = "".join(each if each.isprintable() else "?" for each in reason[:_LONGEST_REASON]).rstrip(".")
    return SourceError(f"{shown} could not be fetched: {printable}.", subject=shown, retryable=not final)  # 4


def _distrust(error: BaseException | None) -> str | None:
    """Why a certificate was refused, wherever in the chain of causes that is said."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return None
