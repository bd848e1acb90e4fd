"""Files that a command is to write: looked at before anything runs, so that no result is lost at the end."""

from __future__ import annotations

import os
from pathlib import Path

from sandbox.x86.errors import ConfigurationError


def check_place(option: str, place: str | Path) -> None:
    """Raises ConfigurationError, with the option and why, where no file can be made."""
    why = _why_not(Path(place))
    if why:
        raise ConfigurationError(f"{option} {place}: {why}")


def check_folder(option: str, path: Path) -> None:
    """Raises ConfigurationError, with the option and why, where no folder is and none can be made, with those above."""
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    why = _refused(there) if there.is_dir() else f"{there} is not a folder"
    if why:
        raise ConfigurationError(f"{option} {path}: {why}")


def _why_not(path: Path) -> str:
    if path.is_dir() or (path.exists() and not path.is_file()):
        return "not a regular file"
    if not path.parent.is_dir():
        return "cannot be written: there is no such folder"
    return _refused(path if path.exists() else path.parent)


def _refused(there: Path) -> str:
    """Why what is there cannot be written, or ''."""
    if os.access(there, os.W_OK):
        return ""
    read_only = os.statvfs(there).f_flag & os.ST_RDONLY
    return f"cannot be written: {'a read-only file system' if read_only else 'permission denied'}"
