"""Bytes that other programs left on this machine: Hugging Face caches, Ollama blobs, plain folders.

Directories come in; out go places to look for chunks (`sources`), believed nowhere, and models that can be installed
without a download (`describing`).

Source: spec 2 §Adopt.
"""
