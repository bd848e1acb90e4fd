"""The same programs on this host: in a root directory of their own, with the environment of the table."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.programs.table import ENVIRONMENT, PROJECT, ROOT, Program

DEVICES = {"null": (1, 3), "zero": (1, 5), "random": (1, 8), "urandom": (1, 9)}
SECONDS = 60


@contextmanager
def native_root() -> Iterator[Path]:
    """A copy of the root, by hard links, with devices if this user may make them."""
    folder = Path(tempfile.mkdtemp(prefix="native-", dir=PROJECT / "build"))
    try:
        root = folder / "root"
        shutil.copytree(ROOT, root, symlinks=True, copy_function=os.link)
        for name, (major, minor) in DEVICES.items():
            with suppress(OSError):
                os.mknod(root / "dev" / name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
                (root / "dev" / name).chmod(0o666)
        yield root
    finally:
        shutil.rmtree(folder)


def _enter(root: Path, argv: tuple[str, ...]) -> list[str]:
    """The command that runs a program in a root directory."""
    if os.geteuid() == 0:
        return ["chroot", str(root), *argv]
    return ["unshare", "--map-root-user", "chroot", str(root), *argv]


def runs_here(root: Path) -> str:
    """Why the host cannot run these programs; nothing when it can."""
    try:
        done = subprocess.run(_enter(root, ("/bin/busybox", "true")), capture_output=True, timeout=SECONDS, check=False)
    except OSError as error:
        return str(error)
    return "" if done.returncode == 0 else done.stderr.decode(errors="replace") or f"status {done.returncode}"


def run_native(root: Path, program: Program) -> tuple[int, str, str]:
    """Status as a shell shows it, standard output and standard error."""
    for name, text in program.files.items():
        (root / name.lstrip("/")).write_text(text)
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    done = subprocess.run(
        ["env", "-i", f"PATH={path}", *_enter(root, ("/bin/busybox", "env", "-i", *_assignments(), *program.argv))],
        input=program.stdin.encode(), capture_output=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    for each in (root / "tmp").iterdir():
        shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()
    status = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return status, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def _assignments() -> list[str]:
    return [f"{name}={value}" for name, value in ENVIRONMENT.items()]
