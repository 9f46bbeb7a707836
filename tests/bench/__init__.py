"""Benchmarks: a registry of incompressible bytes goes in, a table of ratios against other tools comes out.

`python -m tests.bench pull` compares a whole pull (fetch, verify, install) with a C loop, curl, aria2c and
huggingface_hub in one alternating run; `python -m tests.bench list` times the listing of many installed
models. Seconds depend on the machine; read the ratios. Nothing here imports the code under test except the
two child programs that run it (`inprocess`, `list_child`), so the peers can be measured without it.
"""
