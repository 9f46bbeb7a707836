"""How the file is called in which a registry's last index is kept. Apart, so that who only looks at its age loads nothing.

Source: spec 1 §Disk layout (`cache/index/<registry>.json`).
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["index_file"]


def index_file(directory: Path, registry_url: str) -> Path:
    """The file for one registry, named by its first base URL."""
    parts = urlsplit(registry_url)
    label = re.sub(r"[^A-Za-z0-9.-]+", "-", f"{parts.hostname or 'dir'}{parts.path}").strip("-.")[-60:]
    return directory / f"{label}-{hashlib.sha256(registry_url.encode()).hexdigest()[:8]}.json"
