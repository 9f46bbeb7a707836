"""WHO IS AWAKE: requests come in, models are loaded and leave, and nobody's memory is counted twice.

    engine        the public face: install, estimate, queue, answer; an async context manager
      ├─▶ scheduler     carries out what `policy` decides, and tells it what happened
      │     ├─▶ policy        `decide(state, event) -> (state, effects)`: pure, replayable, explains itself
      │     │     ├─▶ queue         who is next: priorities, ageing, service windows
      │     │     └─▶ state         models, devices, requests, events, effects: what all of them talk about
      │     └─▶ ledger        one SQLite file for a user and machine, shared by all kernels
      ├─▶ estimate      bytes that a model will take, from its headers and its configuration
      └─▶ devices       NVIDIA, MPS, the CPU, simulated ones: what they have, what others use

Source: spec 4 §Residency; seeds/003 phase 3.
"""
