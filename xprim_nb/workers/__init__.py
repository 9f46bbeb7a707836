"""WHO RUNS: an installed model comes in, pieces of text go out, and no process is ever left behind.

    contract    what a backend, a loaded model (`Runner`) and the models on this machine (`Library`) promise
    values      what crosses: requests, pieces, facts, crash reports
    backends/   one module each: numpy, transformers, ollama, openai_compatible, openai, anthropic; found by entry point
      └─▶ process     `start_runner`: a model in a process of its own, as a `Runner`; `refusals` translates its errors
            ├─▶ spare       a started interpreter in waiting
            └─▶ worker      one process: hello, frames (`routes`: who waits for them), stop
                  ├─▶ spawn       its group, from one thread that stays; `jobs` on Windows
                  ├─▶ tidings     the threads of its pipes
                  ├─▶ watch       memory against its limit (`limits`), silence against its health (`health`)
                  ├─▶ crash       why it ended: cause, report, error
                  ├─▶ wire        frames: length, JSON header, raw bytes; both ends run it
                  └─▶ child       the worker itself; the standard library alone, because its interpreter may be another
                        ├─▶ guard       it dies with its kernel
                        └─▶ engines/    what a worker imports after the handshake: llama_numpy, hf_transformers

Source: spec 4 §Workers; seeds/003 phases 1 and 2.
"""
