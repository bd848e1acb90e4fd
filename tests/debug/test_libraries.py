"""Names, lines and callers in programs that are moved, in shared libraries, and in modules that a program loads.

What is expected is what the sources say; the program is a dynamic one of this host's glibc.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.debug.open import open_target
from sandbox.debug.worker import Remote
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.target import Target
from tests.debug.machines import run
from tests.debug.test_gdb import gdb, needs_gdb, serving

LIBC, LOADER = Path("/lib32/libc.so.6"), Path("/lib32/ld-linux.so.2")
needs_glibc = pytest.mark.skipif(not LIBC.exists() or not LOADER.exists(), reason="no 32-bit glibc here")
LIBRARY = """int counted;
int count(int (*each)(int), int n)
{
    counted += each(n);
    return counted;
}
"""
PROGRAM = """int count(int (*each)(int), int n);
static int twice(int n)
{
    return 2 * n;
}
int main(void)
{
    int sum = count(twice, 3);
    sum += count(twice, 4);
    return sum;
}
"""
MODULE = """static int ready;
int init_module(void)
{
    ready = 1;
    return 0;
}
void cleanup_module(void)
{
    ready = 0;
}
"""
LOADS = """
        .globl  _start, loaded
_start: mov     $5, %eax                # open
        mov     $path, %ebx
        xor     %ecx, %ecx
        int     $0x80
        mov     %eax, %ebx
        mov     $350, %eax              # finit_module
        mov     $empty, %ecx
        xor     %edx, %edx
        int     $0x80
loaded: mov     %eax, %ebx
        mov     $1, %eax
        int     $0x80
        .data
path:   .asciz  "/lib/ready.o"
empty:  .byte   0
"""
CHAIN = ["twice", "count", "main"]


def compiled(source: Path, text: str, *flags: str) -> Path:
    source.write_text(text)
    made = source.with_suffix("")
    subprocess.run(["gcc", "-m32", "-g", "-o", str(made), str(source), *flags], check=True, capture_output=True)
    return made


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By their paths in the guest."""
    folder = tmp_path_factory.mktemp("dynamic")
    library = compiled(folder / "libcount.c", LIBRARY, "-O0", "-shared", "-fPIC", "-Wl,-soname,libcount.so")
    library = library.rename(folder / "libcount.so")
    program = compiled(folder / "moved.c", PROGRAM, "-O0", "-pie", "-fPIE", str(library), "-Wl,-rpath,/lib")
    return {"": program, "/lib/libcount.so": library, "/lib/libc.so.6": LIBC, "/lib/ld-linux.so.2": LOADER}


@pytest.fixture
def made(files: dict[str, Path]) -> Iterator[Remote]:
    config = KernelConfig(ram=32 << 20, files={name: path for name, path in files.items() if name})
    image = Target("moved", "program", files[""].read_bytes())
    with Remote(lambda: open_target(image, config)) as remote:
        yield remote


@needs_glibc
def test_a_moved_program_and_its_library(made: Remote) -> None:
    told = run(made, "break moved.c:9", "continue")
    assert told[-2] == "moved.c:9  sum += count(twice, 4);"
    told = run(made, "break libcount.c:4", "continue")
    assert told[-2] == "libcount.c:4  counted += each(n);"
    told = run(made, "break twice", "continue", "backtrace")
    assert [re.split(r"[+ ]", line[4:].split(maxsplit=1)[1])[0] for line in told[:3]] == CHAIN
    assert [line.split()[-1] for line in told[:3]] == ["moved.c:3", "libcount.c:4", "moved.c:9"]
    assert any("__libc_start_main" in line for line in told), "by the libc's dynamic symbols and .eh_frame"
    assert "main+" in run(made, "print main + 1")[0]


@needs_glibc
def test_names_are_known_at_the_programs_end(made: Remote) -> None:
    """2 * 3, and that and 2 * 4: the status is 6 + 14."""
    assert run(made, "continue")[0] == "exit status 20"
    at = int(made.execute("print count").data["value"])
    assert run(made, f"print {at:#x}")[0].endswith("<count>")
    assert run(made, "list count")[0] == "libcount.c:3"
    assert run(made, "list main")[0] == "moved.c:7"


@needs_gdb
@needs_glibc
def test_gdb_finds_the_libraries(files: dict[str, Path]) -> None:
    words = [word for name, path in files.items() if name for word in ("--file", f"{path}:{name}")]
    with serving(str(files[""]), *words) as where:
        told = gdb(
            where, "break main", "continue", "info sharedlibrary", "break libcount.c:4", "continue", "print n", "next",
            "delete", "break twice", "continue", "bt", "delete", "continue",
        )  # fmt: skip
    assert "Breakpoint 1, main () at " in told
    assert re.search(r"Yes +target:/lib/libcount.so", told)
    assert re.search(r"Yes \(\*\) +target:/lib/libc.so.6", told)
    assert re.search(r"^\$1 = 3$", told, re.M)
    assert re.search(r"^#0  twice \(n=4\) at .*moved.c:4$", told, re.M)
    assert re.search(r"^#1  0x\w+ in count \(each=0x\w+ <twice>, n=4\) at .*libcount.c:4$", told, re.M)
    assert re.search(r"^#2  0x\w+ in main \(\) at .*moved.c:9$", told, re.M)
    assert "exited with code 024" in told


def test_a_module_that_a_program_loads(tmp_path: Path) -> None:
    module = compiled(tmp_path / "ready.c", MODULE, "-O0", "-c", "-ffreestanding", "-fno-pic")
    (tmp_path / "loads.S").write_text(LOADS)
    program = compiled(tmp_path / "loads.S", LOADS, "-nostdlib", "-static")
    config = KernelConfig(ram=16 << 20, files={"/lib/ready.o": module})
    image = Target("loads", "program", program.read_bytes())
    with Remote(lambda: open_target(image, config)) as made:
        run(made, "catch module", "continue", "break ready.c:5")
        told = run(made, "continue")
        assert told[-2] == "ready.c:5  return 0;"
        assert "init_module+" in told[-1]
        assert run(made, "list")[0] == "ready.c:5"
        assert "call_module" in run(made, "backtrace")[1]
        assert run(made, "delete", "continue")[0] == "exit status 0"
