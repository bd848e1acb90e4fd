"""ELF files that no linker makes: what Linux does with them, this kernel does too.

The numbers are those of a run on Linux 6.18 (x86-64), and where the tests run on such a host they are checked again.
"""

from __future__ import annotations

import platform
import struct
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Program, Run
from tests.image.elf_cases import PT_GNU_STACK, PT_INTERP, PT_TLS, Elf, Entry

BASE = 0x08048000
STACK = Entry(kind=PT_GNU_STACK, filesz=0, memsz=0, flags=6, align=16)
CODE = 0x300
"""Where in the file the code is, unless a case says otherwise."""
ON_X86_LINUX = platform.system() == "Linux" and platform.machine() in ("x86_64", "i686")

TEENSY = bytes.fromhex("7f454c4601000000000000000000010002000300200001002000010004000000b32a31c040cd80003400200001")
"""The 45 bytes of "A Whirlwind Tutorial on Creating Really Teensy ELF Executables" (B. Raiter): exit(42)."""


def exit_with(number: int) -> bytes:
    return b"\xbb" + struct.pack("<I", number) + b"\x31\xc0\x40\xcd\x80"


def made(*headers: Entry, number: int = 7, entry: int = BASE + CODE, code: int = CODE, size: int = 0x400,
         **fields: object) -> bytes:  # fmt: skip
    """A file of ``size`` bytes that ends with ``number`` when its code at file offset ``code`` runs."""
    data = bytearray(Elf(headers=[*headers, STACK], entry=entry, size=size, **fields).pack())  # type: ignore[arg-type]
    data[code : code + 12] = exit_with(number)
    return bytes(data)


def whole(**fields: int) -> Entry:
    return Entry(**{"filesz": 0x400, "memsz": 0x400, **fields})


IDENT = b"\x7fELF\x01\x01\x01" + bytes(9)
# What it is, the file, and the status as a shell shows it (139 is SIGSEGV).
CASES = [
    ("bytes past the end", made(whole(), Entry(offset=0x400, vaddr=BASE + 0x1400, filesz=0x500, memsz=0x500)), 7),
    ("overlap", made(whole(filesz=0x1000, memsz=0x20000, flags=6), whole(vaddr=BASE + 0x10000),
                     entry=BASE + 0x10000 + CODE, size=0x1000), 7),
    ("one page for two", made(whole(), whole(offset=0x80, vaddr=BASE + 0x80, filesz=4, memsz=4, flags=7)), 7),
    ("the later wins", made(whole(memsz=0x2000), whole(vaddr=BASE + 0x1000), entry=BASE + 0x1000 + CODE), 7),
    ("twice", made(whole(), whole()), 7),
    ("unordered", made(whole(vaddr=BASE + 0x10000), whole(flags=6), entry=BASE + 0x10000 + CODE), 7),
    ("unordered, position-independent",
     made(whole(vaddr=0x10000), whole(vaddr=0, flags=6), entry=0x10000 + CODE, type=3), 7),
    ("alignment 3", made(whole(align=3)), 7),
    ("alignment beyond the offset", made(whole(align=0x10000, vaddr=BASE + 0x1000), entry=BASE + 0x1000 + CODE), 7),
    ("alignment 3, position-independent", made(whole(align=3, vaddr=0), entry=CODE, type=3), 7),
    ("entry in padding", made(whole(filesz=0x100, memsz=0x100)), 7),
    ("zeros of a segment that is not to be written", made(whole(), Entry(vaddr=BASE + 0x1000, offset=0, filesz=0,
                                                                          memsz=0x1000, flags=4)), 7),
    ("no PT_LOAD", made(), 139),
    ("entry outside", made(whole(), entry=BASE + 0x5000), 139),
    ("entry in the kernel", made(whole(), entry=0xFFFFF000), 139),
    ("an empty segment", made(whole(), whole(vaddr=BASE + 0x3000, filesz=0, memsz=0)), 7),
    ("more in the file than in memory", made(whole(memsz=0x3FF)), 139),
    ("offset and address differ", made(whole(vaddr=BASE + 0x10), entry=BASE + 0x10 + CODE), 139),
    ("in the kernel", made(whole(), whole(vaddr=0xFFFFF000, memsz=0x1001)), 139),
    ("before the file", made(whole(), Entry(offset=0xFFFFF000, vaddr=BASE + 0x1000)), 7),
    ("PT_TLS without sense", made(whole(), Entry(kind=PT_TLS, filesz=9, memsz=8, align=6)), 7),
    ("class", made(whole(), ident=IDENT[:4] + b"\x02" + IDENT[5:]), 7),
    ("byte order", made(whole(), ident=IDENT[:5] + b"\x02" + IDENT[6:]), 7),
    ("versions", made(whole(), ident=IDENT[:6] + b"\x09" * 10, version=7), 7),
    ("header size", made(whole(), ehsize=64), 7),
    ("machine 486", made(whole(), machine=6), 7),
    ("200 headers", made(whole(filesz=0x2400, memsz=0x2400), *[Entry(kind=0)] * 200, code=0x2300, size=0x2400,
                         entry=BASE + 0x2300), 7),
    ("45 bytes", TEENSY, 42),
]  # fmt: skip

EXEC = """
_start: mov eax, 11
        mov ebx, offset name
        mov ecx, offset argv
        xor edx, edx
        int 0x80
        neg eax
        sys exit, eax
        .data
argv:   .long name, 0
name:   .asciz "{path}"
"""


def status(run: Run, files: dict[str, bytes], path: str) -> int:
    result = run(EXEC.format(path=path), files=files)
    return result.status or (128 + result.signal if result.signal else 0)


def native(files: dict[str, bytes], path: str) -> int:
    for name, data in files.items():
        Path(name).write_bytes(data)
        Path(name).chmod(0o755)
    try:
        code = subprocess.run([path], check=False, timeout=20).returncode
    except OSError as error:
        return error.errno or 0
    return code if code >= 0 else 128 - code


@pytest.mark.parametrize(("data", "wanted"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_runs_as_on_linux(run: Run, tmp_path: Path, data: bytes, wanted: int) -> None:
    path = str(tmp_path / "p")
    if ON_X86_LINUX:
        assert native({path: data}, path) == wanted
    assert status(run, {path: data}, path) == wanted


def _with_interpreter(interpreter: str, size: int | None = None, offset: int = 0x200) -> bytes:
    name = interpreter.encode() + b"\0"
    data = bytearray(made(whole(), Entry(kind=PT_INTERP, offset=offset, filesz=size or len(name))))
    data[0x200 : 0x200 + len(name)] = name
    return bytes(data)


@pytest.mark.parametrize(
    ("loader", "wanted"),
    [
        (made(whole(), number=21), 21),
        (made(whole(vaddr=0), number=22, entry=CODE, type=3), 22),
        (made(), 139),
        (b"\x7fELF" + bytes(100), 80),
        (b"text" * 20, 80),
    ],
    ids=["at the program's own address", "position-independent", "no PT_LOAD", "no machine", "text"],
)
def test_interpreters(run: Run, tmp_path: Path, loader: bytes, wanted: int) -> None:
    path, interpreter = str(tmp_path / "p"), str(tmp_path / "i")
    files = {path: _with_interpreter(interpreter), interpreter: loader}
    if ON_X86_LINUX:
        assert native(files, path) == wanted
    assert status(run, files, path) == wanted


def test_an_interpreter_beyond_the_file(run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "p")
    files = {path: _with_interpreter("/x", offset=0x3FE)}
    if ON_X86_LINUX:
        assert native(files, path) == 5
    assert status(run, files, path) == 5, "EIO"


ARGUMENTS = """
_start: sub esp, 0x10000
        mov ebx, esp
        mov edi, esp
        mov ecx, {count}
        mov eax, offset text
        rep stosd
        mov dword ptr [edi], 0
        mov ecx, ebx
        mov eax, 11
        mov ebx, offset name
        xor edx, edx
        int 0x80
        neg eax
        sys exit, eax
        .data
name:   .asciz "/bin/count"
text:   .fill {length}, 1, 'a'
        .byte 0
"""
COUNT = """
_start: mov ebx, [esp]
        mov ecx, [esp + 4]
        add bl, [ecx]
        mov eax, 1
        int 0x80
"""


@pytest.mark.parametrize(
    ("count", "length", "wanted"),
    [(20, 100_000, 20 + 97), (5, 131_071, 5 + 97), (1, 131_072, 7), (21, 100_000, 7), (0, 0, 1), (5000, 10, 0xE9)],
)
def test_argument_limits(run: Run, program: Program, count: int, length: int, wanted: int) -> None:
    """A quarter of the 8 MB stack for all, 128 KB a string; without arguments one that is empty (execve(2))."""
    text = ARGUMENTS.format(count=count, length=length)
    assert run(text, files={"/bin/count": program(COUNT)}).status == wanted
