"""In the worker: where a thread's own variables are (``qGetTLSAddr``), as glibc has them on an i386.

Drepper, "ELF Handling For Thread-Local Storage", 3.4.2: the thread pointer is the base of GS, and the second word there
leads to the thread's vector, with an entry of two words for each module.  A module's number is in its ``link_map``, at
a place that glibc tells debuggers (nptl_db/structs.def: ``DB_STRUCT_FIELD (link_map, l_tls_modid)``); the program's
is 1.
"""

from __future__ import annotations

from sandbox.debug import poke
from sandbox.debug.debugger import Debugger
from sandbox.debug.gdb.threads import select
from sandbox.debug.kernel_target import KernelTarget

MODID, OFFSET = "_thread_db_link_map_l_tls_modid", "_thread_db_link_map_l_tls_offset"
"""Three words: bits of the field, how many, and its place."""
_THREADED_AT, _DTV_AT, _PLACE_AT = 12, 4, 8
NOT_YET = 0xFFFFFFFF
"""The thread has not asked for a module's block yet; one that was there at the start is below the thread pointer."""


def thread_local(debugger: Debugger, thread: int, offset: int, link_map: int) -> int | None:
    """Where a variable is, by its place in the module of a ``link_map`` (0: the program); None where nobody knows."""
    target = debugger.target
    if not select(debugger, thread) or not isinstance(target, KernelTarget) or target.task is None:
        return None
    pointer = target.task.context.segment("gs").base
    if not pointer or _word(target, pointer) != pointer or _word(target, pointer + _THREADED_AT) not in (0, 1):
        return None  # another C library's
    module = _field(target, link_map, MODID, 1)
    block = _word(target, _word(target, pointer + _DTV_AT) + 8 * module) if module else 0
    if block == NOT_YET:
        below = _field(target, link_map, OFFSET, 0)
        block = pointer - below if below not in (0, NOT_YET) else 0
    return block + offset & 0xFFFFFFFF if block else None


def _field(target: KernelTarget, link_map: int, name: str, unknown: int) -> int:
    """A field of a ``link_map``, by what glibc tells of it."""
    told = target.address_of(name) if link_map else None
    return unknown if told is None else _word(target, link_map + _word(target, told + _PLACE_AT))


def _word(target: KernelTarget, linear: int) -> int:
    """0 where nothing is mapped."""
    return int.from_bytes(poke.read(target, linear & 0xFFFFFFFF, 4), "little")
