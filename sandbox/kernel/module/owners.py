"""Which module has asked for what: to name who leaves something behind, and who frees what is another's.

A call's return address tells whose it is.  Modules that are linked to each other may hand on what they have, and what a
module has left behind anybody may free.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.kmalloc import FIRSTFREE, HEADER
from sandbox.kernel.module.loader import Module, Modules
from sandbox.x86.errors import SandboxError
from sandbox.x86.paging import PAGE_SIZE

FRAMES, PIECES, AREAS, DEVICES, HANDLERS = "frames", "pieces of kmalloc", "areas", "devices", "interrupt handlers"
_WORDS = {
    FRAMES: "frames from physical", PIECES: "a piece of kmalloc at", AREAS: "an area at", DEVICES: "device",
    HANDLERS: "a handler of vector",
}  # fmt: skip
_SLAB = 1
"""What kmalloc's middle answers when the piece is in EDX."""
Words = tuple[int, ...]


class WrongOwner(SandboxError):
    """A module frees what another one has, to which it is not linked."""

    exit_status = 1


@dataclass(frozen=True, slots=True)
class Holding:
    """What a module holds: its kind and key (linear address, frame, vector, name), and the place of the call."""

    kind: str
    key: int | str
    module: Module
    eip: int

    def line(self) -> str:
        """For a person."""
        key = self.key
        if isinstance(key, int):
            key = f"{key:#x}" if self.kind == HANDLERS else f"{key << 12 if self.kind == FRAMES else key:#010x}"
        return f"{_WORDS[self.kind]} {key}, asked for in {self.place()}"

    def place(self) -> str:
        """The function of the call, of the module's own symbols."""
        module = self.module
        near = [(at, name) for name, at in module.symbols.items() if module.holds(at) and at <= self.eip]
        if not near:
            return f"{self.eip - module.base:#x} [{module.name}]"
        at, name = max(near)
        return f"{name}+{self.eip - at:#x} [{module.name}]"


class Owners:
    """The books of one kernel."""

    def __init__(self, kernel: Kernel, modules: Modules) -> None:
        self._kernel, self._modules = kernel, modules
        self._held: dict[tuple[str, int | str], tuple[Module, int]] = {}
        """Module and place of the call, by kind and key: an object is made of it when somebody asks."""
        pages, direct = self._page, self._direct
        got: dict[str, tuple[str, Callable[[int], int | str | None]]] = {
            "kmalloc": (PIECES, self._piece), "alloc_pages": (FRAMES, pages),
            **dict.fromkeys(("__get_free_pages", "__get_free_page", "get_free_pages"), (FRAMES, direct)),
            **dict.fromkeys(("get_free_page", "__get_dma_pages", "__get_dma_page"), (FRAMES, direct)),
            **dict.fromkeys(("vmalloc", "vremap", "ioremap", "ioremap_nocache"), (AREAS, _area)),
        }  # fmt: skip
        self.takes = got
        """By exported name: what it gives to who calls, and how its result tells which."""
        self.gives: dict[str, tuple[str, Callable[[int], int | str | None]]] = {
            "kfree": (PIECES, lambda address: address), "__free_pages": (FRAMES, pages),
            **dict.fromkeys(("free_pages", "free_page"), (FRAMES, direct)),
            **dict.fromkeys(("vfree", "iounmap"), (AREAS, _area)),
            "unregister_chrdev": (DEVICES, self._name), "free_irq": (HANDLERS, lambda vector: vector),
        }  # fmt: skip
        """The same for what is given back, and how the first argument tells which."""
        self.registers = {"register_chrdev": (DEVICES, self._name), "request_irq": (HANDLERS, lambda vector: vector)}
        """The same for what the first argument names; a negative result is an errno."""
        self.names = frozenset((*self.takes, *self.gives, *self.registers))

    # -- the books -----------------------------------------------------------------------------------------------

    def check(self, name: str, arguments: Words, eip: int) -> None:
        """Before a call.  Raises WrongOwner."""
        given = self.gives.get(name)
        if given is None:
            return
        kind, key_of = given
        key = key_of(arguments[0])
        found = None if key is None else self._held.get((kind, key))
        if key is None or found is None:
            return
        owner = found[0]
        if owner.base <= eip < owner.base + owner.size:
            return
        caller = self._modules.at(eip)
        if caller is None or owner is caller or owner not in self._modules.loaded:
            return
        if caller in owner.needs or owner in caller.needs:
            return
        what = Holding(kind, key, *found).line()
        raise WrongOwner(f"{name}: {caller.name} gives back what {owner.name} has: {what}")

    def done(self, name: str, arguments: Words, result: int | None, eip: int) -> None:
        """After a call that the kernel has answered."""
        given = self.gives.get(name)
        key: int | str | None
        if given is not None:
            kind, key_of = given
            key = key_of(arguments[0])
            if key is not None:
                self._held.pop((kind, key), None)
            return
        if name in self.takes:
            if not result:
                return
            kind, key_of = self.takes[name]
            key = key_of(result)
        else:
            if result is None or result < 0:
                return
            kind, key_of = self.registers[name]
            key = key_of(arguments[0])
        if key is not None:
            for module in self._modules.loaded:
                if module.base <= eip < module.base + module.size:
                    self._held[kind, key] = module, eip
                    return

    def held(self, kinds: list[str]) -> list[Holding]:
        """What of certain kinds modules have not given back, in the order of asking."""
        return [Holding(kind, key, *found) for (kind, key), found in self._held.items() if kind in kinds]

    # -- keys ----------------------------------------------------------------------------------------------------

    def _piece(self, result: int) -> int:
        """The piece that the routine of ``kmalloc.S`` will take out of the area, or has in EDX."""
        kernel = self._kernel
        if result == _SLAB:
            return kernel.this_cpu.vcpu.context.edx & 0xFFFFFFFF
        return kernel.memory.words[result + FIRSTFREE - PAGE_OFFSET >> 2] + HEADER

    def _page(self, page: int) -> int:
        return self._kernel.model.pfn_of(page)

    @staticmethod
    def _direct(linear: int) -> int:
        return linear - PAGE_OFFSET >> 12

    def _name(self, pointer: int) -> str:
        return self._kernel.peek.kernel_string(pointer).decode("latin-1")


def _area(linear: int) -> int:
    return linear & -PAGE_SIZE
