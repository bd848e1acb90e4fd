"""C programs with a C library: musl or klibc from Debian's packages, linked statically.

The libraries are not in the repository; ``asm/images/libc/fetch.sh`` brings them into ``build/libc``.  The images that
are linked with them are, and run without.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from sandbox.home import HOME
from sandbox.image.assemble import run_tool
from sandbox.records import dataclass
from sandbox.x86.errors import SandboxError

LIBRARIES = HOME / "build" / "libc"
FETCH = "asm/images/libc/fetch.sh"


class LibcMissing(SandboxError):
    """The C library that a program is linked with has not been fetched."""

    exit_status = 2

    def __init__(self, libc: str) -> None:
        super().__init__(f"{libc} is not fetched", f"run {FETCH}")


@dataclass(frozen=True, slots=True)
class Libc:
    """How to compile and link with one C library; paths are relative to its folder below ``build/libc``."""

    flags: tuple[str, ...]
    includes: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    kernel_headers: bool
    """It has no copy of the Linux headers it includes: the host's are as good."""


LIBCS = {
    "musl": Libc(("-march=i686",), ("include",), ("lib/crt1.o", "lib/crti.o"), ("lib/crtn.o",), False),
    "klibc": Libc(
        ("-march=i386", "-mregparm=3", "-D_REGPARM=3", "-D_BITSIZE=32", "-D__KLIBC__=2", "-D__KLIBC_MINOR__=0"),
        ("include/arch/i386", "include/bits32", "include"),
        ("lib/crt0.o",),
        (),
        True,
    ),
}
_COMPILE = (
    "gcc", "-m32", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-nostdinc", "-fno-pic", "-fno-pie",
    "-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-fcf-protection=none",
)  # fmt: skip
_LINK = ("ld", "-m", "elf_i386", "-static", "--build-id=none", "-z", "noexecstack", "-z", "norelro", "-S")


def is_fetched() -> bool:
    """Whether the libraries are there, all of them and whole."""
    return (LIBRARIES / "complete").is_file()


def link_with_libc(source: Path, out: Path, libc: str) -> None:
    """Compile a C source and link it with a library of LIBCS; the same source and tools give the same bytes.

    Raises LibcMissing, AssemblyError, ToolMissing.
    """
    if not is_fetched():
        raise LibcMissing(libc)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "image.o"
        run_tool([*_COMPILE, *header_flags(libc), "-c", "-o", str(target), source.name], source.parent)
        link_object(target, out, libc)


def header_flags(libc: str) -> list[str]:
    """What gcc needs to compile for a library of LIBCS and find its headers."""
    how, place = LIBCS[libc], LIBRARIES / libc
    flags = [*how.flags, *(f"-isystem{place / each}" for each in how.includes)]
    flags.append("-isystem" + run_tool(["gcc", "-print-file-name=include"]).strip())
    if how.kernel_headers:
        flags += ["-idirafter", "/usr/include"]
        flags += ["-idirafter", "/usr/include/" + run_tool(["gcc", "-print-multiarch"]).strip()]
    return flags


def link_object(target: Path, out: Path, libc: str) -> None:
    """Link an object that defines main with a library of LIBCS."""
    how, place = LIBCS[libc], LIBRARIES / libc
    libraries = ["--start-group", str(place / "lib/libc.a"), str(LIBRARIES / "gcc/libgcc.a"), "--end-group"]
    start, end = ([str(place / each) for each in files] for files in (how.before, how.after))
    run_tool([*_LINK, "-o", str(out.resolve()), *start, str(target), *libraries, *end])
    out.chmod(0o755)
