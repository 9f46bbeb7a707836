"""One request in a process of its own: start, load, answer, end. What paging is compared with."""

from __future__ import annotations

import sys

from xprim_nb.workers.engines import llama_numpy


def main() -> None:
    """Load the model that the line names, and let it answer."""
    engine = llama_numpy.create()
    engine.load({"path": sys.argv[1], "device": "cpu", "context_tokens": 1024}, lambda *_: None)
    request = {
        **{"prompt": "Once upon a time", "max_tokens": 16, "temperature": 0.0, "top_p": 1.0, "top_k": 0},
        **{"seed": 0, "stop": [], "loras": []},
    }
    print("".join(piece.get("text", "") for piece in engine.generate(request, lambda: False)))


if __name__ == "__main__":
    main()
