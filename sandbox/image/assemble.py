"""Sources to images, by GNU as and ld, nasm, or gcc for C."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from sandbox.home import HOME
from sandbox.x86.errors import SandboxError

SOURCES = HOME / "asm"
INCLUDES = SOURCES / "images" / "include"
LINK_PROGRAM, LINK_ROM = SOURCES / "images" / "program.ld", SOURCES / "images" / "rom.ld"
SUFFIXES = (".S", ".s", ".asm", ".c")
TOOL_TIMEOUT = 60
_WHERE = re.compile(r"^(In file included from|\s+from) |: [Ii]n function .*:$|^ld: warning: ")
"""Lines of gcc and ld that lead up to what is wrong."""


class AssemblyError(SandboxError):
    """A tool refused a source: its own message, with file and line."""

    exit_status = 2


class ToolMissing(SandboxError):
    """A tool that is needed is not installed."""

    exit_status = 2


def run_tool(arguments: list[str], cwd: Path | None = None) -> str:
    """Run a tool; its output.  Raises ToolMissing, or AssemblyError with what it printed."""
    if shutil.which(arguments[0]) is None:
        package = {"nasm": "nasm", "gcc": "gcc"}.get(arguments[0], "binutils")
        raise ToolMissing(f"{arguments[0]} is not installed", f"apt-get install {package}")
    try:
        done = subprocess.run(
            arguments, capture_output=True, text=True, errors="replace", timeout=TOOL_TIMEOUT, cwd=cwd,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise AssemblyError(f"{arguments[0]} did not end within {TOOL_TIMEOUT} seconds") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        lines = [line for line in said.splitlines() if not line.endswith("Assembler messages:")]
        first = next((at for at, line in enumerate(lines) if not _WHERE.search(line)), 0)
        raise AssemblyError(lines[first] if lines else f"{arguments[0]} failed", "\n".join(lines[first + 1 :]))
    return done.stdout


@functools.cache
def tool_version(tool: str) -> str:
    """``GNU as (GNU Binutils for Debian) 2.40``: the first line that the tool says of itself."""
    first = run_tool([tool, "-v" if tool == "nasm" else "--version"]).splitlines()[0].strip()
    return re.sub(r"^(NASM version \S+).*", r"\1", first.replace("GNU assembler", "GNU as"))


def tool_for(source: Path) -> str:
    """The version line of the tool that translates a source."""
    return tool_version({".asm": "nasm", ".c": "gcc"}.get(source.suffix, "as"))


def assemble_source(source: Path, out: Path, kind: str = "program", load: int = 0x100000) -> None:
    """Build an image: an ELF program, a relocatable object for a module, a flat binary for a ROM.

    The same source and tools give the same bytes.  Raises AssemblyError and ToolMissing.
    """
    if not source.is_file():
        raise AssemblyError(f"{source}: no such file")
    with tempfile.TemporaryDirectory() as folder:
        target = out if kind == "module" else Path(folder) / "image.o"
        _to_object(source.resolve(), target.resolve())
        if kind == "module":
            return
        flags = ["ld", "-m", "elf_i386", "--build-id=none", "-nostdlib", "-z", "noexecstack"]
        flags += ["--no-warn-rwx-segments", "-o", str(out.resolve())]
        if kind == "rom":
            run_tool([*flags, "-T", str(LINK_ROM), f"--defsym=LOAD={load:#x}", "--oformat", "binary", str(target)])
        else:
            run_tool([*flags, "-T", str(LINK_PROGRAM), str(target)])
            out.chmod(0o755)


def assemble_for_debugging(source: Path, out: Path, load: int) -> None:
    """A ROM's source as an ELF file with symbols and line numbers, linked to where the ROM is loaded.

    Raises AssemblyError and ToolMissing.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "image.o"
        _to_object(source.resolve(), target, lines=True)
        flags = ["ld", "-m", "elf_i386", "--build-id=none", "-nostdlib", "-z", "noexecstack", "--no-warn-rwx-segments"]
        place = ["-T", str(LINK_ROM), f"--defsym=LOAD={load:#x}"]
        run_tool([*flags, *place, "-o", str(out.resolve()), str(target)])


def tool_argument(source: Path) -> str:
    """A file's name for a tool that runs in its folder; one that looks like an option is kept from being one."""
    return f"./{source.name}" if source.name.startswith(("-", "@")) else source.name


def _to_object(source: Path, target: Path, *, lines: bool = False) -> None:
    """``lines``: with line numbers, which change no byte of what is loaded."""
    place, name = source.parent, tool_argument(source)
    more = ["-g"] if lines else []
    if source.suffix == ".asm":
        run_tool(
            [
                "nasm",
                *more,
                *(["-F", "dwarf"] if lines else []),
                "-f",
                "elf32",
                "-I",
                f"{INCLUDES}/",
                "-o",
                str(target),
                name,
            ],
            place,
        )
    elif source.suffix == ".c":
        # Stack clash protection: a frame larger than a guard page touches every page on its way down.
        run_tool(
            ["gcc", *more, "-m32", "-march=i686", "-O2", "-ffreestanding", "-fno-pic", "-fno-stack-protector",
             "-nostdlib", "-fstack-clash-protection", "-fno-asynchronous-unwind-tables", "-fcf-protection=none",
             "-I", str(INCLUDES), "-c", "-o", str(target), name],
            place,
        )  # fmt: skip
    elif source.suffix in (".S", ".s"):
        run_tool(["as", *more, "--32", "-I", str(INCLUDES), "-o", str(target), name], place)
    else:
        raise AssemblyError(f"{source}: not a source (known are {', '.join(SUFFIXES)})")


def assemble_text(text: str, address: int = 0, syntax: str = "intel") -> bytes:
    """The bytes of a snippet at a linear address, by GNU as.  Raises AssemblyError and ToolMissing."""
    # On the first line, so that the numbers of lines in messages are those of the text.
    lead = ".intel_syntax noprefix; " if syntax == "intel" else ""
    with tempfile.TemporaryDirectory() as folder:
        source, target, flat = (Path(folder) / name for name in ("snippet.S", "snippet.o", "snippet.bin"))
        source.write_text(lead + text + "\n")
        run_tool(["as", "--32", "-o", target.name, source.name], Path(folder))
        run_tool(
            ["ld", "-m", "elf_i386", "-Ttext", f"{address:#x}", "-e", f"{address:#x}", "--oformat", "binary", "-o",
             str(flat), str(target)]
        )  # fmt: skip
        return flat.read_bytes()
