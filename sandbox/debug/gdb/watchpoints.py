"""gdb's watchpoints (packets Z2, Z3 and Z4): what the stub asks of the process that runs the machine."""

from __future__ import annotations

from sandbox.debug.commands.watch import KINDS, linear
from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.stops import Stop, StopKind
from sandbox.debug.target import Refused
from sandbox.debug.watching import MOST_BYTES

WORDS = {b"2": "watch", b"3": "rwatch", b"4": "awatch"}
"""By the packet's number; a stop reply uses the words."""
GDBS = "(gdb watch"


def range_of(address: bytes, size: bytes) -> tuple[int, int]:
    """First address and bytes that a packet names.  Raises ValueError."""
    first, length = int(address, 16), int(size, 16)
    if not 0 < length <= MOST_BYTES or not 0 <= first <= (1 << 32) - length:
        raise ValueError(f"{first:#x}, {length:#x}: no range")
    return first, length


def told(watch: tuple[str, int] | None) -> bytes:
    """Part of a stop reply."""
    return b"" if watch is None else b"%s:%x;" % (watch[0].encode(), watch[1])


def set_watchpoint(debugger: Debugger, word: str, address: int, size: int, on: bool, process: int = 0) -> Answer:
    """gdb's own watchpoint, ``watch``, ``rwatch`` or ``awatch``: on or off; the answer's error says what cannot be.

    ``process`` is who has it, where gdb knows of processes.
    """
    wanted, text = linear(debugger, KINDS[word], address, size), f"{GDBS} {process})" if process else f"{GDBS})"
    same = [each for each in debugger.points if each.text == text and each.what == word and each.address == address]
    found = [each for each in same if each.argument.size == size]
    try:
        if on and not found:
            debugger.check_watch(wanted)
            debugger.points.add(word, text, address=address, argument=wanted)
    except Refused as error:
        return Answer(error=error.summary)
    for each in found if not on else ():
        debugger.remove(each)
    return Answer()


def watch_of(debugger: Debugger, stop: Stop) -> tuple[str, int] | None:
    """Which of gdb's watchpoints a stop is of: its word, and the address that it watches."""
    hit = [debugger.points.all.get(number) for number in stop.points]
    for each in hit if stop.kind is StopKind.WATCHPOINT else ():
        if each is not None and each.text.startswith(GDBS) and each.address is not None:
            return each.what, each.address
    return None
