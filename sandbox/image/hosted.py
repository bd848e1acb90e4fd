"""Programs with a ``main``: linked statically with the C library that is there, the host's or a fetched musl."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

from sandbox.image.assemble import AssemblyError, assemble_source, run_tool, tool_argument
from sandbox.image.libc import FETCH, header_flags, is_fetched, link_object
from sandbox.x86.errors import SandboxError

HOST = ("gcc", "-m32", "-static", "-O2", "-w", "-pthread")
MUSL = (
    "gcc", "-m32", "-O2", "-w", "-nostdinc", "-fno-pic", "-fno-pie", "-fno-stack-protector", "-fcf-protection=none",
)  # fmt: skip
LEAST = '#include <stdio.h>\nint main(void) { return puts(""); }\n'
HOW = f"""`apt-get install gcc-multilib` brings glibc, {FETCH} brings musl.
A program that is linked elsewhere (gcc -m32 -static) runs as it is; one that has #include "user.h" needs no library."""


class NoLibrary(SandboxError):
    """A program has a ``main``, and there is no C library to call it."""

    exit_status = 2


class NoStart(SandboxError):
    """A source has no place where a program begins."""

    exit_status = 2


def build_source(source: Path, out: Path) -> str:
    """Build what a source is, by the names that it defines, and tell its kind.

    With ``init_module`` it is a module; with ``_start`` a program by itself; with ``main`` one that a C library calls.
    Raises NoStart for any other, NoLibrary, AssemblyError and ToolMissing.
    """
    try:
        assemble_source(source, out, "module")
    except AssemblyError:
        if not _may_want_library(source):
            raise
        _link_main(source, source, out)
        return "program"
    names = _defined(out.read_bytes())
    if names.get("init_module"):
        return "module"
    if names.get("_start"):
        assemble_source(source, out)
    elif names.get("main"):
        _link_main(source, source if source.suffix == ".c" else out.rename(out.with_name("main.o")), out)
    else:
        raise _no_start(source.name, names)
    return "program"


def _defined(data: bytes) -> dict[str, bool]:
    """The names that an object file defines, and whether others see them.

    Of any object, also of one with sections that a module cannot have.
    """
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import SymbolTableSection

    table = ELFFile(BytesIO(data)).get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection):
        return {}
    return {
        each.name: each["st_info"]["bind"] != "STB_LOCAL"
        for each in table.iter_symbols()
        if each.name and each["st_shndx"] != "SHN_UNDEF"
    }


def _may_want_library(source: Path) -> bool:
    """Whether a source that does not compile by itself may with a C library: it has a main, and not user.h's."""
    text = source.read_text("utf-8", "replace")
    return source.suffix == ".c" and re.search(r"\bmain\s*\(", text) is not None and '"user.h"' not in text


def _no_start(name: str, names: dict[str, bool]) -> NoStart:
    hidden = next((each for each in ("init_module", "_start", "main") if each in names), None)
    if hidden is not None:
        return NoStart(f"{name}: {hidden} is not global", f"`.globl {hidden}` (nasm: `global {hidden}`) makes it so")
    if name.endswith(".c"):
        return NoStart(f"{name}: there is no main and no _start, where a program begins")
    detail = "put `.globl _start` (nasm: `global _start`) and `_start:` before its first instruction"
    return NoStart(f"{name}: there is no _start, where a program begins", detail)


def _link_main(source: Path, given: Path, out: Path) -> None:
    """Compile and link with glibc if the host's gcc has one for i386, or else with musl if that was fetched."""
    place = given.resolve().parent
    try:
        run_tool([*HOST, "-o", str(out.resolve()), tool_argument(given), "-lm"], place)
    except AssemblyError:
        if _host_has_library(out.with_name("least.c")):
            raise
        if not is_fetched():
            raise NoLibrary(f"{source.name}: it has a main, and no C library for i386 is there", HOW) from None
        if given == source:
            given = out.with_name("main.o")
            run_tool([*MUSL, *header_flags("musl"), "-c", "-o", str(given), tool_argument(source)], place)
        link_object(given, out, "musl")


def _host_has_library(least: Path) -> bool:
    """Whether gcc makes an i386 program of the least source that needs a C library."""
    least.write_text(LEAST)
    try:
        run_tool([*HOST, "-o", str(least.with_suffix("")), least.name], least.parent)
    except AssemblyError:
        return False
    return True
