"""The C programs of this folder, built with the host's glibc, or with musl where it is fetched, and run natively."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path

from sandbox.image.assemble import ToolMissing, run_tool
from sandbox.image.libc import header_flags, is_fetched, link_object
from sandbox.x86.errors import SandboxError

SOURCES = Path(__file__).parent / "sources"
NAMES = tuple(sorted(path.stem for path in SOURCES.glob("*.c")))
SECONDS = 60
KERNEL_HEADERS = "/usr/include/x86_64-linux-gnu"


@functools.cache
def build(name: str, libc: str) -> bytes | str:
    """The ELF file; why there is none."""
    source = SOURCES / f"{name}.c"
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / name
        try:
            if libc == "glibc":
                run_tool(["gcc", "-m32", "-O1", "-static", "-pthread", "-o", str(target), str(source)], SOURCES)
            elif not is_fetched():
                return "musl is not fetched"
            else:
                made = Path(folder) / "made.o"
                flags = ["-m32", "-O1", "-std=gnu11", "-nostdinc", "-fno-pic", "-fno-stack-protector"]
                flags += [*header_flags("musl"), "-idirafter", "/usr/include", "-idirafter", KERNEL_HEADERS]
                run_tool(["gcc", *flags, "-c", "-o", str(made), str(source)], SOURCES)
                link_object(made, target, "musl")
        except ToolMissing as error:
            return error.summary
        except SandboxError as error:
            return f"{error.summary} {error.detail}"
        return target.read_bytes()


@functools.cache
def native(name: str, libc: str) -> tuple[int, str] | str:
    """Status and standard output on this host; why there is none."""
    program = build(name, libc)
    if isinstance(program, str):
        return program
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / name
        target.write_bytes(program)
        for path in (Path(folder), target):
            path.chmod(0o755)  # one of the programs becomes another user, who executes it
        try:
            done = subprocess.run([str(target)], capture_output=True, timeout=SECONDS, check=False)
        except OSError as error:
            return str(error)
    return done.returncode, done.stdout.decode()
