"""POSTs notices as JSON.

Loaded when the first webhook is opened: it brings the HTTP client.

Source: spec 2 §Refresh (`webhook:URL`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2

from xprim_nb.notify.notices import Notice

__all__ = ["Webhook"]

_log = logging.getLogger("xprim_nb.notify")

# A hook that does not answer within this is as good as absent.
_TIMEOUT_S = 10.0
# The waits between the tries; a hook that is down for longer hears nothing of this notice.
_WAITS_S = (0.5, 2.0)
# Answers below 500 after which the same request may do better: it took too long, or there were too many.
_PASSING = (408, 429)


class Webhook:
    """Tries again when the hook is down or says that it is busy.

    Args:
        url: An http or https URL with a host; checked by `open_channel`.
        options: Further arguments of `httpx2.Client` (`proxy`, `verify`).
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._url, self._options = url, dict(options)
        parts = urlsplit(url)
        self._shown = f"webhook:{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}/***"

    def __call__(self, notice: Notice, closing: threading.Event) -> None:
        """Deliver, in at most three tries; once `closing` is set they follow each other at once."""
        content = notice.model_dump_json().encode()
        for wait_s in (*_WAITS_S, None):
            why, is_passing = self._post(content)
            if not why:
                return
            if not is_passing or wait_s is None:
                _log.warning("a notice could not be delivered to %r: %s", self, why)
                return
            closing.wait(wait_s)

    def __repr__(self) -> str:
        return self._shown

    def _post(self, content: bytes) -> tuple[str, bool]:
        """Why it failed, empty when it did not, and whether another try may do better."""
        logger = logging.getLogger("httpx2")
        logger.addFilter(self._is_not_ours)
        try:
            with httpx2.Client(timeout=_TIMEOUT_S, **self._options) as client:
                headers = {"Content-Type": "application/json"}
                answer = client.post(self._url, content=content, headers=headers)
        except httpx2.HTTPError as error:  # its text may have the URL in it
            return type(error).__name__, True
        finally:
            logger.removeFilter(self._is_not_ours)
        if answer.is_success:
            return "", False
        return (
            f"it answered {answer.status_code}",
            answer.status_code >= 500 or answer.status_code in _PASSING,
        )

    def _is_not_ours(self, record: logging.LogRecord) -> bool:
        """False for the client's own line about our request: the URL is in it."""
        return self._url not in record.getMessage()
