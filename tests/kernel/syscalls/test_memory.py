"""brk, mmap, munmap, mprotect, madvise as programs call them (man 2)."""

from __future__ import annotations

from tests.conftest import Run
from tests.kernel.calls import results

EBADF, ENOMEM, EACCES, EFAULT, EINVAL = -9, -12, -13, -14, -22
RW, ANON = 3, 0x22


def test_mmap_and_friends(run: Run, paging: str) -> None:
    got, _ = results(
        run,
        [
            ("mmap2", 0, 8192, RW, ANON, -1, 0),
            ("munmap", "r0", 4096),
            ("munmap", "r0", 4096),
            ("mprotect", "r0", 4096, 1),
            ("munmap", "r0", 8192),
            ("mmap2", 0, 0, RW, ANON, -1, 0),
            ("mmap2", 0, 4096, RW, 2, 99, 0),
            ("mmap2", 0, 4096, RW, 0x20, -1, 0),
            ("mmap", 0xC0000000),
            ("munmap", 1, 4096),
            ("madvise", 1, 4096, 4),
        ],
        paging=paging,
    )
    assert got[0] % 4096 == 0
    assert got[1:] == [0, 0, ENOMEM, 0, EINVAL, EBADF, EINVAL, EFAULT, EINVAL, EINVAL]


def test_old_mmap(run: Run) -> None:
    got, _ = results(
        run,
        [("mmap", "offset block"), ("mmap", "offset odd")],
        "block: .long 0x50000000, 4096, 3, 0x32, -1, 0\nodd: .long 0, 4096, 1, 2, 0, 5",
    )
    assert got == [0x50000000, EINVAL]


def test_file_mappings(run: Run) -> None:
    got, _ = results(
        run,
        [
            ("open", "offset name", 0, 0),
            ("mmap2", 0, 4096, 1, 2, "r0", 0),
            ("mmap2", 0, 4096, 3, 1, "r0", 0),
            ("close", "r0"),
            ("open", "offset name", 1, 0),
            ("mmap2", 0, 4096, 1, 2, "r4", 0),
        ],
        'name: .asciz "/data"',
        files={"/data": b"abc"},
    )
    assert got[0] == 3
    assert got[1] % 4096 == 0
    assert got[2] == EACCES, "a shared writable mapping of a file that is open for reading"
    assert got[5] == EACCES, "a mapping of a file that is open for writing only"


def test_brk(run: Run) -> None:
    got, _ = results(run, [("brk", 0), ("brk", 1), ("brk", 0xFFFFFFFF), ("brk", 0)])
    assert len(set(got)) == 1


def test_shared_memory_by_name(run: Run, paging: str) -> None:
    """What shm_open(3) and sem_open(3) do: /dev/shm is a file system in memory, sticky and for everybody."""
    got, buf = results(
        run,
        [
            ("open", "offset segment", 0o102 | 0o200, 0o600),
            ("ftruncate", "r0", 8192),
            ("mmap2", 0x600000, 8192, 3, 0x11, "r0", 0),
            ("write", "r0", "offset segment", 8),
            ("open", "offset segment", 0o102 | 0o200, 0o600),
            ("stat64", "offset folder", "offset buf"),
            ("unlink", "offset segment"),
            ("open", "offset segment", 2),
            ("write", 1, 0x600000, 8),
        ],
        'segment: .asciz "/dev/shm/seg"\nfolder: .asciz "/dev/shm"\n',
        paging=paging,
    )
    assert got == [3, 0, 0x600000, 8, -17, 0, 0, -2, 8]
    assert int.from_bytes(buf[16:20], "little") == 0o41777
