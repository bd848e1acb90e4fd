"""The kernel's own image: where its routines are, and its exception table."""

from __future__ import annotations

import functools
import struct

from sandbox.home import HOME
from sandbox.kernel.base.layout import KERNEL_LOAD
from sandbox.records import dataclass, fields
from sandbox.x86.errors import SandboxError

IMAGES = HOME / "images" / "kernel"
IMAGE, SYSTEM_MAP = IMAGES / "kernel.elf", IMAGES / "System.map"


class KernelImageError(SandboxError):
    """The kernel's image is missing or does not fit this code."""

    exit_status = 3


@dataclass(frozen=True, slots=True)
class Routines:
    """Linear addresses of what ``asm/kernel`` defines."""

    startup_32: int
    call_stub: int
    call_module: int
    poison: int
    start_thread: int
    kernel_gate: int
    invlpg: int
    load_cr3: int
    flush_tlb: int
    flush_tlb_all: int
    clear_page: int
    copy_page: int
    break_cow: int
    break_cow_pae: int
    copy_user: int
    clear_user: int
    strncpy_from_user: int
    get_user_4: int
    put_user_4: int
    cmpxchg_user: int
    put_window: int
    store_window: int
    kmalloc: int
    kfree: int
    kmalloc_format: int
    memcpy: int
    ex_table_start: int
    ex_table_end: int
    text_end: int
    init_start: int
    init_end: int
    kernel_end: int


@dataclass(frozen=True, slots=True)
class KernelImage:
    """Bytes as they are loaded (from ``_text`` on, init code behind the rest), routines, and all symbols."""

    text: bytes
    start: int
    routines: Routines
    symbols: dict[str, int]

    @property
    def init_load(self) -> int:
        """Physical address of the init code: right behind the rest."""
        return KERNEL_LOAD + self.routines.kernel_end - self.start


@functools.cache
def kernel_image() -> KernelImage:
    """Read the built image.  Raises KernelImageError."""
    try:
        raw = IMAGE.read_bytes()
        listing = SYSTEM_MAP.read_text("utf-8")
    except OSError as error:
        raise KernelImageError(f"the kernel's image is missing: {error.filename}", "run `make images`") from error
    symbols: dict[str, int] = {}
    for line in listing.splitlines():
        address, _, name = line.split(maxsplit=2)
        symbols[name] = int(address, 16)
    names = [field.name for field in fields(Routines)]
    missing = [name for name in names if name not in symbols]
    if missing:
        raise KernelImageError(f"the kernel's image has no symbol {missing[0]}", "run `make images`")
    routines = Routines(*(symbols[name] for name in names))
    text, start = _loaded(raw)
    return KernelImage(text, start, routines, symbols)


def _loaded(raw: bytes) -> tuple[bytes, int]:
    """The segments of an ELF file at the distances of their physical addresses; the linear address of the first."""
    (header,) = struct.unpack_from("<I", raw, 28)
    (count,) = struct.unpack_from("<H", raw, 44)
    segments = [struct.unpack_from("<IIII", raw, header + 32 * number + 4) for number in range(count)]
    found = b""
    for offset, _, physical, filesz in segments:
        found = found.ljust(physical - segments[0][2], b"\0") + raw[offset : offset + filesz]
    return found, segments[0][1]
