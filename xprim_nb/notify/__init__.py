"""Tell a person, a file or another program what happened here and what to do next.

    with Notifier(events, ["log", "webhook:https://example.org/hook", "file:~/models.jsonl", print]) as notifier:
        ...

Comes in: events, and notices that are handed over. Goes out: each as one notice to every channel, in a thread that holds
nobody up; what cannot be delivered is logged and dropped. A webhook's URL may be its password: only its host is shown.

Source: spec 2 §Refresh (notification channels), §Maintenance ("notify with the next step"); seeds/000 (Error Recovery).
"""

from xprim_nb.notify.channels import Channel, open_channel
from xprim_nb.notify.notices import Notice, Severity, notice_of
from xprim_nb.notify.notifier import Notifier

__all__ = ["Channel", "Notice", "Notifier", "Severity", "notice_of", "open_channel"]
