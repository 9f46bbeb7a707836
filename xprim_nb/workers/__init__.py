"""WHO RUNS: an installed model comes in, pieces of text go out, and no process is ever left behind.

    contract    what a backend, a loaded model (`Runner`) and the models on this machine (`Library`) promise
    values      what crosses: requests, pieces, facts, crash reports
    backends/   one module each: numpy, transformers, ollama, openai_compatible, openai, anthropic; found by entry point
      └─▶ process     supervision of one worker process: start, hello, deadline, health, stop, crash report
            ├─▶ wire        frames: length, JSON header, raw bytes
            └─▶ child       the worker itself; the standard library alone, because its interpreter may be another one
                  └─▶ engines/    what a worker imports after the handshake: llama_numpy, hf_transformers

Source: spec 4 §Workers; seeds/003 phases 1 and 2.
"""
