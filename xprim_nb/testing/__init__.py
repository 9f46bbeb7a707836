"""For tests of this package and of what is built on it: suites, faulty servers, hostile bytes.

A registry directory and a list of faults come in; out go an HTTP server that answers as it was told, and a
record of what it was asked. Nothing in the rest of the package imports from here, and only the contract
suites need pytest.

    registries        registries made from plain bytes, independent of the publisher
    faulty_registry   an HTTP/1.1 server for one, with faults, gates and a record
    faulty_proxy      a forward proxy with a record
    faults            the ways an answer can go wrong
    hostile           manifests, indexes and references that must be refused
    models            the models of one directory, as backends ask for them
    sinks             a chunk sink that keeps its bytes in memory
    source_contract   what every `Source` promises, as a pytest suite
    backend_contract  what every `Backend` promises, likewise; `runner_contract` is its part about loaded models
    checkpoint_contract  what every checkpoint saver promises, likewise; `checkpoints_shared` is its part about storage
"""
