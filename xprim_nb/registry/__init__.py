"""WHAT EXISTS: a content-addressed registry of models, read and written.

A `ModelRef` comes in; out go an index entry, a verified manifest, and chunk bytes that match their names.
Nothing here knows where models are installed.

    refs ─▶ client ─▶ sources/{http,directory}      who fetches, tries again, remembers
              │
              ├─▶ index, trust                      what the registry lists, and whether it changed its story
              └─▶ manifest, paths                   what a model is made of, checked before use
    publisher ─▶ folder, chunking, objects, naming   the writing side; serving hands it out
                    └─▶ tensors ─▶ gguf, headers     what lies in a tensor file

Source: spec 1.
"""
