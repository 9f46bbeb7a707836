"""WHO IS AWAKE: requests come in, models are loaded and leave, and nobody's memory is counted twice.

    engine        the public face: install, estimate, queue, answer; an async context manager
      ├─▶ scheduler     carries out what `policy` decides, and tells it what happened
      │     ├─▶ policy        `decide(state, event) -> (state, effects)`: pure, replayable, explains itself
      │     │     ├─▶ queue         who is next: priorities, ageing, service windows
      │     │     └─▶ state         models, devices, requests, events, effects: what all of them talk about
      │     └─▶ ledger        one SQLite file for a user and machine, shared by all kernels
      │           ├─▶ ledgerview    everybody's side of it; ledgerfile, ledgertables, ledgerlog: its file
      │           ├─▶ footprints    what models were seen to take, kept in the same file
      │           ├─▶ kernels       which process is which, and whether it lives
      │           └─▶ leases        what a lease means, and the room that leases leave
      ├─▶ options       ways to hold a model, best first
      │     └─▶ estimate      bytes that it will take, from its headers and its configuration
      └─▶ monitor       what devices have left beside what others use
            └─▶ devices       nvml, machine (the CPU, Metal), simulated ones; hardware: what a device is

Source: spec 4 §Residency; seeds/003 phase 3.
"""
