"""What mmap and mremap refuse: each number is what Linux 6.18 gave, with the differences of an i386 kernel noted."""

from __future__ import annotations

import pytest

from tests.conftest import Run

SHARED, PRIVATE, VALIDATE, FIXED, ANON, GROWSDOWN = 1, 2, 3, 0x10, 0x20, 0x100
HUGETLB, SYNC, NOREPLACE = 0x40000, 0x80000, 0x100000
ALL = 0xFFFFFFFF
EIO, EBADF, ENOMEM, EACCES, ENODEV, EINVAL, EOVERFLOW, EOPNOTSUPP = 5, 9, 12, 13, 19, 22, 75, 95

# path and flags of open (None for fd -1), length, prot, flags, pgoff, errno or 0
CASES = [
    ("/dev/zero", 0, 4096, 3, SHARED, 0, EACCES),
    ("/dev/zero", 0, 4096, 1, SHARED, 0, 0),
    ("/dev/zero", 0, 4096, 3, PRIVATE, 0, 0),
    ("/dev/zero", 2, 4096, 3, SHARED, 0, 0),
    ("/dev/zero", 1, 4096, 2, SHARED, 0, EACCES),
    ("/dev/zero", 1, 4096, 2, PRIVATE, 0, EACCES),
    ("/dev/zero", 2, 4096, 3, PRIVATE | GROWSDOWN, 0, EINVAL),
    ("/dev/zero", 2, 4096, 3, VALIDATE, 0, 0),
    ("/dev/null", 2, 4096, 1, PRIVATE, 0, ENODEV),
    ("/dev/full", 2, 4096, 1, SHARED, 0, ENODEV),
    ("/proc/self/maps", 0, 4096, 1, PRIVATE, 0, ENODEV),
    ("/proc/self/maps", 0, 4096, 1, SHARED, 0, ENODEV),
    ("/proc/self/maps", 0, 4096, 3, SHARED, 0, EACCES),
    ("/proc/self/cmdline", 0, 4096, 1, PRIVATE, 0, ENODEV),
    ("/proc/mounts", 0, 4096, 1, PRIVATE, 0, ENODEV),
    ("/proc/sys/kernel/ostype", 0, 4096, 1, PRIVATE, 0, ENODEV),
    ("/proc/version", 0, 4096, 1, PRIVATE, 0, EIO),
    ("/tmp", 0, 4096, 1, PRIVATE, 0, ENODEV),
    ("/proc/self/exe", 0, 2 << 20, 1, PRIVATE | HUGETLB, 0, EINVAL),
    ("/dev/zero", 0, 2 << 20, 1, PRIVATE | HUGETLB, 0, EINVAL),
    (None, 0, 2 << 20, 1, PRIVATE | HUGETLB, 0, EBADF),
    (None, 0, 4096, 1, PRIVATE | ANON | HUGETLB, 0, ENOMEM),
    (None, 0, 2 << 20, 1, PRIVATE | ANON | HUGETLB, 0, ENOMEM),
    (None, 0, 2 << 20, 1, PRIVATE | ANON | HUGETLB | 21 << 26, 0, ENOMEM),
    (None, 0, 0, 1, PRIVATE | ANON | HUGETLB, 0, EINVAL),
    (None, 0, 2 << 20, 1, PRIVATE | ANON | HUGETLB | 12 << 26, 0, EINVAL),
    (None, 0, 4096, 1, ALL, 0, EINVAL),
    (None, 0, 4096, 1, ALL & ~HUGETLB, 0, EINVAL),
    ("/proc/self/exe", 0, 4096, 1, ALL & ~HUGETLB & ~ANON, 0, EINVAL),
    ("/proc/self/exe", 0, 4096, 1, VALIDATE | SYNC, 0, EOPNOTSUPP),
    ("/proc/self/exe", 0, 4096, 1, VALIDATE | NOREPLACE, 0, EOPNOTSUPP),
    ("/proc/self/exe", 0, 4096, 1, VALIDATE | 0x4000, 0, 0),
    (None, 0, 4096, 1, VALIDATE | ANON, 0, EINVAL),
    (None, 0, 4096, 0xFFFFFFFF, PRIVATE | ANON, 0, 0),
    # pgoff is 32 bits wide on the i386 (do_mmap: pgoff + pages wraps); a 64-bit kernel takes these two.
    ("/proc/self/exe", 0, 8192, 1, PRIVATE, 0xFFFFFFFE, EOVERFLOW),
    ("/proc/self/exe", 0, 4096, 1, PRIVATE, 0xFFFFFFFE, 0),
]

PROGRAM = """
_start: {open}
        sys mmap2, 0, {length}, {prot:#x}, {flags:#x}, edi, {pgoff:#x}
        cmp eax, -4095
        jae 1f
        xor eax, eax
1:      neg eax
        sys exit, eax
        .data
path:   .asciz "{path}"
"""


@pytest.mark.parametrize(("path", "mode", "length", "prot", "flags", "pgoff", "errno"), CASES)
def test_mmap(
    run: Run, path: str | None, mode: int, length: int, prot: int, flags: int, pgoff: int, errno: int
) -> None:
    opened = "mov edi, -1" if path is None else f'sys open, "offset path", {mode}\n        mov edi, eax'
    text = PROGRAM.format(open=opened, path=path, length=length, prot=prot, flags=flags, pgoff=pgoff)
    assert run(text).status == errno


def test_a_shared_view_of_a_file_that_may_only_be_read_stays_so(run: Run) -> None:
    text = """
_start: sys open, "offset path", 0
        sys mmap2, 0x20000000, PAGE, 1, 0x11, eax, 0
        expect eax, 0x20000000, 1
        sys mprotect, 0x20000000, PAGE, 3
        expect eax, -13, 2
        pass
        .section .rodata
path:   .asciz "/dev/zero"
"""
    assert run(text).status == 0


def test_no_mapping_grows_past_the_largest_offset(run: Run) -> None:
    text = """
        .set SYS_mremap, 163
_start: sys open, "offset path", 0
        sys mmap2, 0x20000000, PAGE, 1, 0x12, eax, 0xfffffffe
        expect eax, 0x20000000, 1
        sys mremap, 0x20000000, PAGE, 0x2000, 1
        expect eax, -12, 2
        pass
        .section .rodata
path:   .asciz "/proc/self/exe"
"""
    assert run(text).status == 0
