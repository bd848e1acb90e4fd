"""What a parent reads of its worker, declared: the dump, and the words it needs of the engine's saved CPU state.

A module of its own because construct takes tens of milliseconds to import, and every run imports ``crashdump``.
"""

from __future__ import annotations

from construct import Int32ul, Int64ul, Pointer, PrefixedArray, Struct

from sandbox.engine import context as ctx

WORD, QUAD = Int32ul, Int64ul

RANGE = Struct("first" / QUAD, "size" / QUAD, "host" / QUAD)
"""RAM: guest-physical address, bytes, and the host's address of the first."""
HANDLE = Struct("pad" / QUAD, "env" / QUAD, "state_size" / QUAD, "ram" / PrefixedArray(WORD, RANGE))
"""An open CPU: host addresses of its pad and of its state, the state's bytes, its RAM."""
DUMP = Struct("running_at" / QUAD, "signal_at" / QUAD, "handles" / PrefixedArray(WORD, HANDLE))
"""Host addresses of two words, the running CPU's pad and the fatal signal's number; then every handle."""

PAGING = Struct(
    "cr0" / Pointer(8 * ctx.CR0, QUAD),
    "cr3" / Pointer(8 * ctx.CR3, QUAD),
    "cr4" / Pointer(8 * ctx.CR4, QUAD),
    "efer" / Pointer(8 * ctx.EFER, QUAD),
)
"""What a page walk needs of a CPU's state."""
