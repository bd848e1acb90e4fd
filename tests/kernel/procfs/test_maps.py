"""/proc/self/maps: names and borders of areas, as a program of the same calls saw them on Linux 6.18 (setarch -R)."""

from __future__ import annotations

from tests.conftest import Run

SETUP = """
        .set SYS_madvise, 219
        .macro map at, size, prot, flags, fd=-1, pgoff=0
        sys mmap2, \\at, \\size, \\prot, \\flags | 0x10, \\fd, \\pgoff
        .endm
_start: sys brk, 0
        add eax, 0x3000
        sys brk, eax
        map 0x20000000, 0x2000, 3, 0x22
        map 0x20002000, 0x2000, 3, 0x22
        sys open, "offset zero", 2
        mov [descriptor], eax
        map 0x20010000, 0x1000, 3, 2, [descriptor]
        map 0x20011000, 0x1000, 3, 2, [descriptor]
        map 0x20012000, 0x1000, 3, 1, [descriptor]
        map 0x20013000, 0x1000, 3, 0x21
        sys open, "offset file", 0x42, 0x180
        mov edi, eax
        mov [descriptor], eax
        map 0x20020000, 0x1000, 1, 2, [descriptor], 0
        map 0x20021000, 0x1000, 1, 2, [descriptor], 1
        map 0x20022000, 0x1000, 1, 2, [descriptor], 1
        sys open, "offset file", 0
        mov [descriptor], eax
        map 0x20023000, 0x1000, 1, 2, [descriptor], 2
        sys unlink, "offset gone"
        map 0x20040000, 0x1000, 3, 0x4022
        map 0x20041000, 0x1000, 3, 0x22
        map 0x20050000, 0x1000, 3, 0x20022
        map 0x20051000, 0x1000, 3, 0x22
        map 0x20070000, 0x2000, 3, 0x122
        map 0x20200000, 0x2000, 0, 0x22
        sys madvise, 0x20200000, 0x1000, 2
        map 0x20300000, 0x2000, 0, 0x22
        sys madvise, 0x20300000, 0x1000, 2
        sys madvise, 0x20300000, 0x1000, 0
        sys open, "offset maps", 0
        sys read, eax, "offset text", 8000
        sys write, 1, "offset text", eax
        pass
        .section .rodata
zero:   .asciz "/dev/zero"
maps:   .asciz "/proc/self/maps"
file:
gone:   .asciz "/tmp/a b"
        .bss
descriptor: .skip 4
text:   .skip 8000
"""
AREAS = [
    ("20000000-20004000", "rw-p", "00000000", ""),
    ("20010000-20011000", "rw-p", "00000000", "/dev/zero"),
    ("20011000-20012000", "rw-p", "00000000", "/dev/zero"),
    ("20012000-20013000", "rw-s", "00000000", "/dev/zero (deleted)"),
    ("20013000-20014000", "rw-s", "00000000", "/dev/zero (deleted)"),
    ("20020000-20022000", "r--p", "00000000", "/tmp/a b (deleted)"),
    ("20022000-20023000", "r--p", "00001000", "/tmp/a b (deleted)"),
    ("20023000-20024000", "r--p", "00002000", "/tmp/a b (deleted)"),
    ("20040000-20041000", "rw-p", "00000000", ""),
    ("20041000-20042000", "rw-p", "00000000", ""),
    ("20050000-20051000", "rw-p", "00000000", ""),
    ("20051000-20052000", "rw-p", "00000000", ""),
    ("20070000-20072000", "rw-p", "00000000", ""),
    ("20200000-20201000", "---p", "00000000", ""),
    ("20201000-20202000", "---p", "00000000", ""),
    ("20300000-20302000", "---p", "00000000", ""),
]


def test_names_and_borders(run: Run) -> None:
    lines = [line.split(None, 5) for line in run(SETUP).stdout.decode().splitlines()]
    found = [(each[0], each[1], each[2], each[5] if len(each) > 5 else "") for each in lines]
    assert [each for each in found if each[0].startswith("20")] == AREAS
    rest = [each[3] for each in found if not each[0].startswith("20")]
    assert rest[-4:] == ["", "[heap]", "[vdso]", "[stack]"], "the heap is not one with .bss below it"
    assert set(rest[:-4]) == {"/bin/t"}
