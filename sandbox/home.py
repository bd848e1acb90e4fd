"""Where the files that are no Python lie: the kernel's code, headers, linker scripts, the collection of images.

In a checkout ``asm`` and ``images`` stand beside this package.  One that was installed brings them along in its folder
``share``, where ``setup.py`` puts them.
"""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
INSTALLED = (_PACKAGE / "share").is_dir()
HOME = _PACKAGE / "share" if INSTALLED else _PACKAGE.parent
"""The folder of ``asm`` and ``images``."""


def build_folder() -> Path:
    """What is made on the way, and may be deleted: ``build`` of a checkout, or below $XDG_CACHE_HOME, which is
    ~/.cache when it is not set (XDG Base Directory Specification 0.8)."""
    if not INSTALLED:
        return HOME / "build"
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if given.startswith("/") else Path(os.environ.get("HOME") or "/") / ".cache") / "sandbox"
