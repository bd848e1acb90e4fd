"""Events: what happened in the machine, typed, stamped with its clock, and read by whoever subscribes.

Whoever has something to tell writes::

    if bus.active:
        bus.emit(PortAccess(now, cpu.index, ...))

so that with no reader an event costs one attribute test and is never built.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from sandbox.records import dataclass, fields


@dataclass(slots=True)
class Event:
    """``time`` in blocks of the machine's clock, ``cpu`` by index.

    The emitters of a ``rare`` one ask ``EventBus.wants`` alone, so that who reads only those does not wake the others.
    """

    rare: ClassVar[bool] = False

    time: int
    cpu: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON: ``event`` is the type's name; bytes become hex, tuples lists."""
        told: dict[str, Any] = {"event": type(self).__name__}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, bytes | bytearray):
                value = value.hex()
            elif isinstance(value, tuple):
                value = list(value)
            told[each.name] = value
        return told


@dataclass(slots=True)
class TrapTaken(Event):
    """An exception or software interrupt reached the supervisor.

    ``address`` (linear) counts for page faults only; ``error_code`` is 0 where the vector has none.  ``number`` counts
    the page faults, from 1; 0 for all else.
    """

    vector: int
    error_code: int
    address: int
    eip: int
    cpl: int
    software: bool
    number: int = 0


@dataclass(slots=True)
class Delivery(Event):
    """A vector went through the guest's IDT: the interrupted place, the handler's, and the new stack pointer.

    ``source`` is ``exception``, ``software`` or ``external``; ``error_code`` is None where none was pushed; a
    delivery that changed the stack has ``from_cpl`` above ``to_cpl``.
    """

    vector: int
    source: str
    error_code: int | None
    from_cs: int
    from_eip: int
    to_cs: int
    to_eip: int
    from_cpl: int
    to_cpl: int
    esp: int


@dataclass(slots=True)
class PortAccess(Event):
    """IN or OUT; ``device`` is empty where nobody answered.  ``size`` in bytes."""

    port: int
    size: int
    write: bool
    value: int
    device: str


@dataclass(slots=True)
class MmioAccess(Event):
    """A load or store that a device answered; ``physical`` is the address, ``size`` in bytes."""

    physical: int
    size: int
    write: bool
    value: int
    device: str


@dataclass(slots=True)
class DmaTransfer(Event):
    """A device stored ``size`` bytes at a physical address."""

    physical: int
    size: int
    device: str


@dataclass(slots=True)
class DeviceInterrupt(Event):
    """A device asks for an interrupt of a vector."""

    vector: int
    device: str


@dataclass(slots=True)
class InterProcessorInterrupt(Event):
    """A CPU has sent one to CPU ``target``.

    ``what`` is ``fixed`` with its vector, ``init``, or ``start-up`` with the page in the vector's place, of a local
    APIC; ``call`` is one of the mini-kernel's, which has no vector.
    """

    target: int
    what: str
    vector: int


@dataclass(slots=True)
class CpuSwitch(Event):
    """Another CPU's turn: ``cpu`` goes on, ``previous`` waits."""

    previous: int


@dataclass(slots=True)
class TlbMiss(Event):
    """A translation was not in a CPU's TLB: what the walk read, and what it came to.

    ``access`` is 0 for a load, 1 a store, 2 a fetch.  ``entries`` are (physical address, entry) from the root on, none
    with paging off; ``marks`` those that the walk stored, with accessed or dirty bits set.  ``physical`` is the 4 KB
    page, None for a fault; ``size`` that of the page it belongs to, in bytes, 0 where a stale translation was used.
    """

    linear: int
    access: int
    user: bool
    entries: tuple[tuple[int, int], ...]
    marks: tuple[tuple[int, int], ...]
    physical: int | None
    size: int


E = TypeVar("E", bound=Event)
Reader = Callable[[Any], None]


class Wanted:
    """Whether somebody reads events of one of some types: ``any``, kept by the bus."""

    __slots__ = ("any", "kinds")

    def __init__(self, kinds: tuple[type[Event], ...]) -> None:
        self.kinds, self.any = kinds, False


class EventBus:
    """Delivers each event to the readers of its type, in the order in which they subscribed.

    An error of a reader is the emitter's to bear: it is not swallowed.
    """

    __slots__ = ("_keys", "_readers", "_routes", "_wanted", "active")

    active: bool
    """Somebody reads, and not only what is rare."""

    def __init__(self) -> None:
        self.active = False
        self._readers: list[tuple[Reader, tuple[type[Event], ...], object]] = []
        self._routes: dict[type[Event], tuple[Reader, ...]] = {}
        self._keys: dict[type[Event], set[object]] = {}
        """Of types that are read by key only: which ones."""
        self._wanted: list[Wanted] = []

    def subscribe(self, reader: Callable[[E], None], *types: type[E], only: object = None) -> Callable[[], None]:
        """Call ``reader`` with every event of the given types, subclasses included, or of any.

        With ``only`` those are enough that the emitter knows by this key (``wants``); the reader hears of others, too,
        while somebody else wants them.  Returns a function that ends the subscription.
        """
        entry = (reader, types, only)
        self._readers.append(entry)
        self._changed()

        def end() -> None:
            if entry in self._readers:
                self._readers.remove(entry)
                self._changed()

        return end

    def wants(self, kind: type[Event], key: object = None) -> bool:
        """Somebody reads events of this type: for emitters that come often, or to whom building one is dear.

        ``key`` is what is known of an event before it is built.
        """
        readers = self._routes.get(kind)
        if not (self._route(kind) if readers is None else readers):
            return False
        return key is None or kind not in self._keys or key in self._keys[kind]

    def watch_for(self, *kinds: type[Event]) -> Wanted:
        """An answer to ``wants`` for any of some types that stays true, for who asks often."""
        self._wanted.append(Wanted(kinds))
        self._changed()
        return self._wanted[-1]

    def emit(self, event: Event) -> None:
        """Hand the event to its readers."""
        kind = type(event)
        readers = self._routes.get(kind)
        for reader in self._route(kind) if readers is None else readers:
            reader(event)

    def _route(self, kind: type[Event]) -> tuple[Reader, ...]:
        found = self._routes.get(kind)
        if found is None:
            entries = [each for each in self._readers if not each[1] or issubclass(kind, each[1])]
            found = self._routes[kind] = tuple(reader for reader, _, _ in entries)
            keys = {only for _, _, only in entries}
            if keys and None not in keys:
                self._keys[kind] = keys
        return found

    def _changed(self) -> None:
        self._routes.clear()
        self._keys.clear()
        for each in self._wanted:
            each.any = any(self.wants(kind) for kind in each.kinds)
        self.active = any(not types or not all(each.rare for each in types) for _, types, _ in self._readers)
