"""``memory_start = whatever_init(memory_start, memory_end)``: a driver's C code that takes memory at boot (post 002).

1.x's start_kernel called such functions between setup_arch and mem_init, when there was no allocator yet: what lies
below the value that they returned was theirs for ever, in one piece, at a known address.  Here an object file whose
``boot_init`` is a function is linked to conventional memory, where boot's first mapping has it at its physical address,
and runs there.  It is gone afterwards, as init code is; what it stored in the memory that it took is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

from sandbox.engine.context import CpuContext
from sandbox.kernel.arch.cpu import CALL_BUDGET, KernelCpu
from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.x86.errors import SandboxError
from sandbox.x86.paging import PAGE_SIZE

if TYPE_CHECKING:
    from sandbox.image.relocatable import Relocatable

ENTRY = "boot_init"
LINK_START, LINK_END = 0x10000, 0x90000
"""Physical, and for as long as boot lasts linear too."""
NOT_YET = 0xFFFFF000
"""Where symbols are that need a kernel, and nothing is mapped: the module's other functions may name them."""


class BootDriverFailed(SandboxError):
    """A driver's ``boot_init`` that cannot be linked, faults, or gives what is no memory_start."""

    exit_status = 1


class NothingAnswers:
    """The trap handler of boot: the first fault, and the first call of a symbol that needs the kernel, end the run."""

    def __init__(self, name: str) -> None:
        self._name = name

    def kernel_trap(self, cpu: KernelCpu, context: CpuContext, trap: object) -> NoReturn:
        why = "it calls what needs a kernel" if context.eip == NOT_YET else str(trap)
        raise BootDriverFailed(f"{self._name}: {ENTRY} stopped at {context.eip:#010x}: {why}")

    def kernel_gate(self, cpu: KernelCpu, context: CpuContext) -> NoReturn:
        raise BootDriverFailed(f"{self._name}: {ENTRY} calls a symbol that needs the kernel, which is not up yet")

    def call_budget(self) -> int:
        return CALL_BUDGET

    def check_limits(self) -> NoReturn:
        raise BootDriverFailed(f"{self._name}: {ENTRY} does not come back")

    def check_time(self) -> None:
        """Before boot is over no time counts."""

    def paused(self, cpu: KernelCpu) -> None:
        """It goes on: its blocks are what is limited."""


def has_boot_init(data: bytes) -> bool:
    """The bytes of an object file name the function."""
    return b"\0" + ENTRY.encode() + b"\0" in data


def call_boot_init(
    memory: PhysicalMemory, cpu: KernelCpu, symbols: Mapping[str, int], driver: tuple[str, bytes], start: int, end: int
) -> int:
    """What ``boot_init`` makes of memory_start, of linear addresses ``start`` and ``end``.

    Raises BootDriverFailed, ImageError.
    """
    from sandbox.image.relocatable import relocatable

    name, data = driver
    image, entry = _link(name, relocatable(data, name), symbols)
    size = -(-len(image) // PAGE_SIZE) * PAGE_SIZE
    if LINK_START + size > LINK_END or not memory.is_ram(LINK_START, size):
        raise BootDriverFailed(f"{name}: {size} bytes do not fit between {LINK_START:#x} and {LINK_END:#x}")
    memory.declare(Reason.IMAGE, LINK_START, size)
    memory.host_write(LINK_START, image, Reason.IMAGE)
    cpu.traps = NothingAnswers(name)
    given = cpu.call_c(entry, start, end)
    cpu.vcpu.drop_all_code()
    memory.withdraw(LINK_START, size)
    if not start <= given <= end:
        raise BootDriverFailed(
            f"{name}: {ENTRY} gave {given:#010x}, which is no memory_start between {start:#010x} and {end:#010x}"
        )
    return given


def _link(name: str, file: Relocatable, symbols: Mapping[str, int]) -> tuple[bytes, int]:
    """The object's bytes at LINK_START, and the address of its function."""
    places, image = {}, bytearray()
    for section in file.sections:
        if section.allocated:
            image += bytes(-len(image) % max(section.align, 1))
            places[section.index] = len(image)
            image += section.data.ljust(section.size, b"\0")
    addresses = [
        LINK_START + places[each.section] + each.value if each.section in places else symbols.get(each.name, NOT_YET)
        for each in file.symbols
    ]
    for relocation in file.relocations:
        if relocation.section in places:
            at = places[relocation.section] + relocation.offset
            address = addresses[relocation.symbol]
            addend = int.from_bytes(image[at : at + relocation.width], "little", signed=True)
            value = address + addend - (LINK_START + at if relocation.relative else 0)
            image[at : at + relocation.width] = (value & (1 << 8 * relocation.width) - 1).to_bytes(
                relocation.width, "little"
            )
    found = file.symbol(ENTRY)
    if found is None or found.section not in places:
        raise BootDriverFailed(f"{name}: {ENTRY} is not defined in it")
    return bytes(image), LINK_START + places[found.section] + found.value
