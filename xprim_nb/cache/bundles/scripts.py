"""The example script and notebook of a derived bundle: they run as they are, offline, with this package alone.

Source: spec 2 §Information bundle.
"""

from __future__ import annotations

from typing import Any

__all__ = ["basic_usage", "notebook"]

_BASIC = '''"""Where {ref} lies, and what it holds. Derived by xprim-nb from what is installed; needs no network.

    python basic_usage.py
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from xprim_nb import Config, Manager

REF = "{ref}"
# This script lies at <base>/info/<group>/<model>/examples/.
BASE = Path(__file__).resolve().parents[4]


async def main() -> None:
    """Print the model's directory, its files and its tensors."""
    async with Manager(Config(data_dir=BASE, offline=True)) as manager:
        print(await manager.path(REF))
        for file in await manager.list_files(REF):
            print(f"{{file.size:>14,}}  {{file.path}}")
        peeked = await manager.peek(REF)
        print(f"{{peeked.parameters:,}} parameters; bytes by type: {{peeked.dtypes}}")


if __name__ == "__main__":
    asyncio.run(main())
'''


def basic_usage(ref: str) -> str:
    """`basic_usage.py` for one version."""
    return _BASIC.format(ref=ref)


def notebook(ref: str) -> dict[str, Any]:
    """`advanced_examples.ipynb` for one version (nbformat 4.5)."""
    cells = [
        _markdown(0, f"# {ref}, looked at\nDerived by xprim-nb from what is installed; needs no network."),
        _code(1, "from xprim_nb import connect\n\nkit = connect()"),
        _code(2, f'ref = "{ref}"\nkit.path(ref).result()'),
        _markdown(3, "## The largest tensors"),
        _code(
            4,
            "peeked = kit.peek(ref).result()\n"
            "tensors = [each for file in peeked.tensor_files.values() for each in file.tensors]\n"
            "for each in sorted(tensors, key=lambda tensor: -tensor.size_bytes)[:10]:\n"
            '    print(f"{each.size_bytes:>14,}  {each.dtype:<6} {each.shape}  {each.name}")',
        ),
        _code(5, "kit.close()"),
    ]
    return {
        "cells": cells,
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _markdown(number: int, text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": f"cell-{number}", "metadata": {}, "source": text}


def _code(number: int, text: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": f"cell-{number}",
        "metadata": {},
        "outputs": [],
        "source": text,
    }
