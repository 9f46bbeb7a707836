"""Train the models of the demo registry: text comes in, model directories go out.

In: public-domain prose, the standard library's own sources, and JSON from a seeded generator. Out: a tiny
byte-level Llama in two versions that share most of their tensors, and three PEFT LoRA adapters, each
directory with its model card. Nothing else imports this package, and it imports torch, transformers and peft
only once a run starts:

    python -m xprim_nb.demo.train --out DIR

needs `pip install torch numpy safetensors transformers peft` and, unless `--prose FILE` is given, a machine
whose `apt-get download` can fetch the prose from Debian.
"""
