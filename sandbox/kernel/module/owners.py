"""Which module has asked for what: to name who leaves something behind, and who frees what is another's.

A call's return address tells whose it is.  Modules that are linked to each other may hand on what they have, and what a
module has left behind anybody may free.
"""

from __future__ import annotations

from collections.abc import Callable

from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.kmalloc import FIRSTFREE, HEADER
from sandbox.kernel.module.loader import Module, Modules
from sandbox.records import dataclass
from sandbox.x86.errors import SandboxError
from sandbox.x86.paging import PAGE_SIZE

FRAMES, PIECES, AREAS, DEVICES, HANDLERS = "frames", "pieces of kmalloc", "areas", "devices", "interrupt handlers"
KMAPS, KVAS, WINDOWS = "kmaps", "users of the kva pool", "kmap_atomic windows"
COUNTED = (KMAPS, KVAS, WINDOWS)
"""Kinds of which a module may have several under one key: each is given back by itself."""
_WORDS = {
    KMAPS: "a kmap of the page at physical", KVAS: "a user of the kva of the page at physical",
    WINDOWS: "a kmap_atomic window at",
    FRAMES: "frames from physical", PIECES: "a piece of kmalloc at", AREAS: "an area at", DEVICES: "device",
    HANDLERS: "a handler of vector",
}  # fmt: skip
_SLAB = 1
"""What kmalloc's middle answers when the piece is in EDX."""
_TO_FIRSTFREE = FIRSTFREE - PAGE_OFFSET
Function = Callable[..., int | None]
KeyOf = Callable[[int], int | str]


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
            by_frame = self.kind in (FRAMES, KMAPS, KVAS)
            key = f"{key:#x}" if self.kind == HANDLERS else f"{key << 12 if by_frame else key:#010x}"
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
        self._kernel, self._modules, self._words = kernel, modules, kernel.memory.words
        self._held: dict[tuple[str, int | str], tuple[Module, int]] = {}
        """Module and place of the call, by kind and key: an object is made of it when somebody asks."""
        self._users: dict[tuple[str, int | str], list[tuple[Module, int]]] = {}
        """The same for what is counted, one for each time."""
        pages, direct = self._page, self._direct
        self.takes: dict[str, tuple[str, KeyOf]] = {
            "kmalloc": (PIECES, self._piece), "alloc_pages": (FRAMES, pages),
            **dict.fromkeys(("__get_free_pages", "__get_free_page", "get_free_pages"), (FRAMES, direct)),
            **dict.fromkeys(("get_free_page", "__get_dma_pages", "__get_dma_page"), (FRAMES, direct)),
            **dict.fromkeys(("vmalloc", "vremap", "ioremap", "ioremap_nocache"), (AREAS, _area)),
        }  # fmt: skip
        """By exported name: what it gives to who calls, and how its result tells which."""
        self.gives: dict[str, tuple[str, KeyOf]] = {
            "kfree": (PIECES, lambda address: address), "__free_pages": (FRAMES, pages),
            **dict.fromkeys(("free_pages", "free_page"), (FRAMES, direct)),
            **dict.fromkeys(("vfree", "iounmap"), (AREAS, _area)),
            "unregister_chrdev": (DEVICES, self._name), "free_irq": (HANDLERS, lambda vector: vector),
        }  # fmt: skip
        """The same for what is given back, and how the first argument tells which."""
        self.registers: dict[str, tuple[str, KeyOf]] = {
            "register_chrdev": (DEVICES, self._name), "request_irq": (HANDLERS, lambda vector: vector),
        }  # fmt: skip
        """The same for what the first argument names; a negative result is an errno."""
        self.counts: dict[str, tuple[str, KeyOf]] = {"kmap": (KMAPS, pages), "kva_get": (KVAS, pages)}
        """The same for what is counted, and how the first argument tells which; the result is not 0."""
        self.counts_by_result: dict[str, tuple[str, KeyOf]] = {
            "kmap_atomic": (WINDOWS, _area), "kmap_atomic_pages": (WINDOWS, _area),
        }  # fmt: skip
        """How the result tells which."""
        self.uncounts: dict[str, tuple[str, KeyOf]] = {
            "kunmap": (KMAPS, pages), "kva_put": (KVAS, pages), "kunmap_atomic": (WINDOWS, _area),
        }  # fmt: skip
        """What is given back of these."""

    # -- the books -----------------------------------------------------------------------------------------------

    def booked(self, name: str, function: Function) -> Function | None:
        """The function of an export with the books around it, which wants the call's place before its arguments.

        None for an export that gives nothing and takes nothing back.  Decided once: kmalloc is called often.
        """
        if name == "kmalloc":
            return self._taking_piece(function)
        if name in self.takes:
            return self._taking(function, *self.takes[name])
        if name in self.gives:
            return self._giving(name, function, *self.gives[name])
        if name in self.counts:
            return self._counting(function, *self.counts[name], by_result=False)
        if name in self.counts_by_result:
            return self._counting(function, *self.counts_by_result[name], by_result=True)
        if name in self.uncounts:
            return self._uncounting(name, function, *self.uncounts[name])
        return self._registering(function, *self.registers[name]) if name in self.registers else None

    def _taking(self, function: Function, kind: str, key_of: KeyOf) -> Function:
        held, loaded = self._held, self._modules.loaded

        def take(eip: int, *given: int) -> int | None:
            result = function(*given)
            if result:
                for module in loaded:  # as _note has it, without the call
                    if module.base <= eip < module.base + module.size:
                        held[kind, key_of(result)] = module, eip
                        break
            return result

        return take

    def _taking_piece(self, function: Function) -> Function:
        """``_taking`` of kmalloc, which is called most."""
        held, loaded, words = self._held, self._modules.loaded, self._words

        def take(eip: int, size: int, priority: int) -> int | None:
            result = function(size, priority)
            if result:
                for module in loaded:
                    if module.base <= eip < module.base + module.size:
                        piece = words[result + _TO_FIRSTFREE >> 2] + HEADER if result != _SLAB else self._piece(result)
                        held[PIECES, piece] = module, eip
                        break
            return result

        return take

    def _registering(self, function: Function, kind: str, key_of: KeyOf) -> Function:
        def register(eip: int, *given: int) -> int | None:
            result = function(*given)
            if result is not None and result >= 0:
                self._note(kind, key_of(given[0]), eip)
            return result

        return register

    def _giving(self, name: str, function: Function, kind: str, key_of: KeyOf) -> Function:
        held = self._held

        def give(eip: int, *given: int) -> int | None:
            place = kind, key_of(given[0])
            found = held.get(place)
            if found is not None and not found[0].base <= eip < found[0].base + found[0].size:
                self._check(name, Holding(*place, *found), eip)
            result = function(*given)
            held.pop(place, None)
            return result

        return give

    def _counting(self, function: Function, kind: str, key_of: KeyOf, by_result: bool) -> Function:
        def take(eip: int, *given: int) -> int | None:
            result = function(*given)
            caller = self._modules.at(eip)
            if result and caller is not None:
                self._users.setdefault((kind, key_of(result if by_result else given[0])), []).append((caller, eip))
            return result

        return take

    def _uncounting(self, name: str, function: Function, kind: str, key_of: KeyOf) -> Function:
        """The caller's own is given back first; what is left may be another's."""

        def give(eip: int, *given: int) -> int | None:
            place = kind, key_of(given[0])
            users, caller = self._users.get(place, []), self._modules.at(eip)
            user = next((each for each in reversed(users) if each[0] is caller), users[-1] if users else None)
            if user is not None and user[0] is not caller:
                self._check(name, Holding(*place, *user), eip)
            result = function(*given)
            if user is not None:
                users.remove(user)
                if not users:
                    del self._users[place]
            return result

        return give

    def _note(self, kind: str, key: int | str, eip: int) -> None:
        """Whoever the call is from has it; the kernel's own are not in the books."""
        for module in self._modules.loaded:
            if module.base <= eip < module.base + module.size:
                self._held[kind, key] = module, eip
                return

    def _check(self, name: str, what: Holding, eip: int) -> None:
        """Somebody else gives back what a module has.  Raises WrongOwner."""
        owner, caller = what.module, self._modules.at(eip)
        if caller is None or owner not in self._modules.loaded or caller in owner.needs or owner in caller.needs:
            return
        raise WrongOwner(f"{name}: {caller.name} gives back what {owner.name} has: {what.line()}")

    def held(self, kinds: list[str]) -> list[Holding]:
        """What of certain kinds modules have not given back, in the order of asking."""
        alone = [Holding(kind, key, *found) for (kind, key), found in self._held.items() if kind in kinds]
        return alone + [
            Holding(kind, key, *user) for (kind, key), users in self._users.items() for user in users if kind in kinds
        ]

    def counted(self) -> dict[str, int]:
        """How many of each kind that is counted."""
        return {kind: len(self.held([kind])) for kind in COUNTED}

    # -- keys ----------------------------------------------------------------------------------------------------

    def _piece(self, result: int) -> int:
        """The piece that the routine of ``kmalloc.S`` will take out of the area, or has in EDX."""
        if result == _SLAB:
            return self._kernel.this_cpu.vcpu.context.edx & 0xFFFFFFFF
        return self._words[result + FIRSTFREE - PAGE_OFFSET >> 2] + HEADER

    def _page(self, page: int) -> int:
        return self._kernel.model.pfn_of(page)

    @staticmethod
    def _direct(linear: int) -> int:
        return linear - PAGE_OFFSET >> 12

    def _name(self, pointer: int) -> str:
        return self._kernel.peek.kernel_string(pointer).decode("latin-1")


def _area(linear: int) -> int:
    return linear & -PAGE_SIZE
