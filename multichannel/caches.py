"""Where what is compiled for this machine is kept."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """``CLEARBEAM_CACHE``, or ``clearbeam`` in the user's cache folder; temporary where that cannot
    be written."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("CLEARBEAM_CACHE") or Path(base) / "clearbeam")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="clearbeam-"))
