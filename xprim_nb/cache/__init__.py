"""WHAT WE HAVE: models on this machine, put there whole or not at all.

A verified manifest comes in; out goes an `InstalledModel` whose every byte was checked on the way. One pull reads

    pull ─▶ planning     which chunk comes from where, and whether the disk can hold it (pure)
     ├────▶ local        chunks that already lie on this machine
     ├────▶ partial      the files being assembled, and the list of chunks verified in them
     └────▶ install      made durable, swapped in by rename, named last
    layout, store        where things lie; registry.json

Source: spec 1 §Disk layout, §Pull.
"""
