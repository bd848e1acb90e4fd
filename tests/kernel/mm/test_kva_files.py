"""read(2) and write(2) of files whose pages are in highmem, by the policy ``high_pages=kva`` (post 001's page_kva)."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.kernel.mm.kmap_atomic import KmapAtomicCounters
from sandbox.kernel.mm.kva_flush import KvaCounters
from tests.conftest import MakeSession

PROGRAM = """
        .set SYS_pread64, 180
        .set SYS_pwrite64, 181
_start:
        sys open, "offset name", 0x42, 0x1a4
        mov [file], eax
        mov edi, offset out
        mov al, 0x11
        mov ecx, 4096
        rep stosb
        mov al, 0x22
        mov ecx, 4096
        rep stosb
        mov edi, offset back
        mov ecx, 8192
        rep stosb                               # the program's own page faults are over
        mov ebp, {writes}
1:      sys pwrite64, [file], "offset out", 8192, 0, 0
        cmp eax, 8192
        jne bad
        dec ebp
        jnz 1b
        mov ebp, {reads}
2:      mov edi, offset back
        mov ecx, 8192
        rep stosb
        sys pread64, [file], "offset back", 8192, 0, 0
        cmp eax, 8192
        jne bad
        mov esi, offset out
        mov edi, offset back
        mov ecx, 2048
        repe cmpsd
        jne bad
        dec ebp
        jnz 2b
        sys exit, 0
bad:    sys exit, 1
name:   .asciz "/tmp/file"
        .bss
file:   .skip 4
        .balign 4096
out:    .skip 8192
back:   .skip 8192
"""


def counted(
    session: MakeSession, paging: str, policy: str, writes: int, reads: int
) -> tuple[KvaCounters, KmapAtomicCounters]:
    """After the program; each page of the file is in highmem, and as it was written."""
    made = session(
        PROGRAM.format(writes=writes, reads=reads), paging=paging, ram=16 << 20, boot="highmem=8m",
        policies={"high_pages": policy},
    )  # fmt: skip
    kernel = made.kernel
    cache = kernel.pagecache
    seen: list[int] = []
    find = cache.find_page

    def noted(inode: object, index: int) -> int:
        pfn = find(inode, index)  # type: ignore[arg-type]
        seen.append(pfn)
        return pfn

    cache.find_page = noted  # type: ignore[method-assign]
    assert made.finish().passed
    file = {pfn for pfn in seen if kernel.memory.read(pfn << 12, 1) in (b"\x11", b"\x22")}
    assert len(file) == 2 and min(file) >= kernel.layout.direct_frames
    if policy == "kva":
        assert all(kernel.kva.page_kva(kernel.this_cpu, pfn) for pfn in file), "they keep their addresses"
    return kernel.kva.counters, kernel.highmem.windows.counters


def test_each_page_of_a_call_is_mapped_once_and_by_the_pool(session: MakeSession, paging: str) -> None:
    """Three more reads and two more writes of two pages: ten more hits, no miss, no store, no window."""
    before, _ = counted(session, paging, "kva", 1, 1)
    after, windows = counted(session, paging, "kva", 3, 4)
    assert after.hits - before.hits == 2 * (2 + 3)
    assert (after.misses, after.pte_stores) == (before.misses, before.pte_stores)
    assert windows.windows == 0


def test_windows_are_opened_as_often_as_the_pool_is_asked(session: MakeSession, paging: str) -> None:
    pool, none = counted(session, paging, "kva", 2, 2)
    nobody, windows = counted(session, paging, "atomic", 2, 2)
    assert pool.hits + pool.misses == windows.windows and not none.windows and not nobody.misses
    assert windows.pte_stores == 2 * windows.windows, "post 001: it is better than remapping for every access"


def test_a_file_of_the_host_comes_in_by_dma_and_is_read_through_the_pool(
    session: MakeSession, paging: str, tmp_path: Path
) -> None:
    """The same for pages that were read in and not written: content by bytes of the host's file."""
    text = bytes(range(256)) * 20
    made = session(
        """
_start: sys open, "offset name", 0
        mov ebx, eax
        sys read, ebx, "offset buffer", 5120
        mov edi, eax
        sys write, 1, "offset buffer", edi
        sys exit, 0
name:   .asciz "/data"
        .bss
buffer: .skip 5120
""",
        paging=paging, ram=16 << 20, boot="highmem=8m", policies={"high_pages": "kva"}, files={"/data": text},
    )  # fmt: skip
    result = made.finish()
    assert result.stdout == text
    assert made.kernel.kva.counters.misses >= 2 and not made.kernel.highmem.windows.counters.windows


@pytest.mark.parametrize("policy", ["kva", "kmap"])
def test_a_pool_of_two_slots_serves_files_of_any_size(session: MakeSession, policy: str) -> None:
    text = b"".join(bytes([n]) * 4096 for n in range(20))
    made = session(
        """
_start: sys open, "offset name", 0
        mov esi, eax
1:      sys read, esi, "offset buffer", 4096
        test eax, eax
        jz 2f
        mov edi, eax
        sys write, 1, "offset buffer", edi
        jmp 1b
2:      sys exit, 0
name:   .asciz "/data"
        .bss
buffer: .skip 4096
""",
        ram=16 << 20, boot="highmem=8m kva=8k pkmap=2", policies={"high_pages": policy}, files={"/data": text},
    )  # fmt: skip
    assert made.finish().stdout == text
