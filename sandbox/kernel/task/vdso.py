"""The vDSO: a shared object of the kernel's in every program, with the ways back from signal handlers (vdso(7)).

AT_SYSINFO_EHDR names it, and AT_SYSINFO its way into the kernel, which is INT 0x80 (a C library that finds the one
expects the other).  The file is built from ``asm/kernel/vdso``.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator

from sandbox.kernel.abi.structs import Stat
from sandbox.kernel.arch.vmlinux import IMAGES, KernelImageError
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.vma import PROT_EXEC, PROT_READ, VM_MAYWRITE, Vma
from sandbox.kernel.vfs.inode import Inode
from sandbox.records import dataclass
from sandbox.x86.paging import PAGE_SIZE

IMAGE = IMAGES / "vdso.so"
SIGRETURN = bytes.fromhex("58 b8 77000000 cd80")
"""POP EAX; MOV EAX, 119; INT 0x80: as it also lies in each frame, where old programs and unwinders look for it."""
RT_SIGRETURN = bytes.fromhex("b8 ad000000 cd80 00")
"""MOV EAX, 173; INT 0x80."""
PT_DYNAMIC = 2
DT_HASH, DT_STRTAB, DT_SYMTAB = 4, 5, 6
_HEADER, _SYMBOL = struct.Struct("<8I"), struct.Struct("<3I4x")


@dataclass(frozen=True, slots=True)
class VdsoImage:
    """The file's bytes, and where in it the way into the kernel and the ways back are."""

    data: bytes
    vsyscall: int
    sigreturn: int
    rt_sigreturn: int


@functools.cache
def vdso_image() -> VdsoImage:
    """Read the built file.  Raises KernelImageError."""
    try:
        data = IMAGE.read_bytes()
    except OSError as error:
        raise KernelImageError(f"the vDSO is missing: {error.filename}", "run `make images`") from error
    found = dict(_symbols(data))
    ways = [found.get(name, 0) for name in (b"__kernel_vsyscall", b"__kernel_sigreturn", b"__kernel_rt_sigreturn")]
    if len(data) > PAGE_SIZE or not all(ways):
        raise KernelImageError("the vDSO is no page with the ways in and back", "run `make images`")
    return VdsoImage(data, *ways)


def _symbols(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Names and values of the dynamic symbols, of a file whose offsets are its addresses."""
    (headers,), (count,) = struct.unpack_from("<I", data, 28), struct.unpack_from("<H", data, 44)
    table = [_HEADER.unpack_from(data, headers + number * _HEADER.size) for number in range(count)]
    at, size = next((each[1], each[4]) for each in table if each[0] == PT_DYNAMIC)
    tags = dict(struct.iter_unpack("<2I", data[at : at + size]))
    (symbols,) = struct.unpack_from("<I", data, tags[DT_HASH] + 4)
    for number in range(symbols):
        name, value, _ = _SYMBOL.unpack_from(data, tags[DT_SYMTAB] + 16 * number)
        start = tags[DT_STRTAB] + name
        yield data[start : data.index(b"\0", start)], value


class Vdso(Inode):
    """The page as a file in memory."""

    name = "[vdso]"

    def stat(self) -> Stat:
        return Stat(dev=0, ino=self.ino, mode=self.kind | 0o555, size=PAGE_SIZE)

    def read_block(self, index: int) -> bytes:
        return vdso_image().data.ljust(PAGE_SIZE, b"\0")


def map_vdso(mm: Mm, page: Vdso) -> None:
    """Give a new address space the page, if there is room for it."""
    found = mm.vmas.get_unmapped_area(PAGE_SIZE)
    if found is not None:
        mm.vmas.insert(Vma(found, found + PAGE_SIZE, PROT_READ | PROT_EXEC, VM_MAYWRITE, page))
        mm.vdso = found
