"""The round trip of a Ray actor that does nothing: one JSON line with its median in seconds."""

from __future__ import annotations

import json
import logging
import statistics
import sys
import time
from typing import Any

import ray


class Echo:
    """Answers with what it is given."""

    def answer(self, text: str) -> str:
        """The text."""
        return text


def main() -> None:
    """Start Ray on this machine, call an actor so many times, print the median."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    actor: Any = ray.remote(Echo).remote()
    ray.get(actor.answer.remote("x"))
    seconds = []
    for _ in range(int(sys.argv[1])):
        began = time.perf_counter()
        ray.get(actor.answer.remote("x"))
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"median_s": statistics.median(seconds)}))


if __name__ == "__main__":
    main()
