"""WHAT IS KEPT, AND WHY: true sizes, clean-up, pins, leases, usage, archives, sharing of equal files.

What lies on disk comes in as facts (`facts`), pure functions turn these into printable plans (`accounting`, `cleanup`),
and `execute` does what a plan says, asking again at each step whether it may. What a user decided (a pin, an archive)
lies in files; `state.sqlite` has only what may be lost.

Source: spec 2 §Clean-up, §Access.
"""
