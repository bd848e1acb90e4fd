"""Guest code never takes the product down: random bytes run as code, in both rings, with paging on.

Every batch runs in a worker process, so that a death is seen, and is an answer with the block in it; none is expected.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest

from sandbox.engine.cpu import Cpu
from sandbox.engine.worker import run_contained
from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.x86.errors import SandboxError
from sandbox.x86.paging import NX, RW, US, P
from tests.campaign import part

CHUNKS, STRINGS = 8, 125_000
PGD, PMD, TABLE, CODE, DATA = 0x1000, 0x2000, 0x3000, 0x100000, 0x200000
LINEAR_CODE, LINEAR_DATA, PAGES = 0x400000, 0x500000, 64
CR0, CR4, EFER = 0x80010033, 0x6B0, 0x800
BLOCKS = 64
LENGTH = 24
STRIDE = 64
INT3 = 0xCC
"""What lies behind the strings: zeros would be a straight line of code to the end of memory."""
_COMMON = bytes.fromhex(
    "0f0f89 8b01 c7 83 81 ff f7 d9 dd f3 f2 66 67 64 cd cf 9a ea e8 e9 eb 50 58 a4 a5 aa ab ad c8 c9 cc f0"
)
_STARTS = [
    bytes.fromhex(each)
    for each in """
    0f01 0f20 0f22 0f23 0f30 0f00 0fae 0fc7 0f0b f30f 660f 0f38 0f3a d9 db df f0 f3a4 f2ae f7f9 f7f1
    f6f9 cf cb ca ea 9a 62 63 c5 c4 8e 0fb2 c8 e4 ec 6c 6f cd f1 9b 0f05 0f34 0f35 f4 fa 0f08 0f09 0f06
    0fa2 0f31
    """.split()
]


def code(draw: random.Random) -> bytes:
    """A third uniform bytes, a third of bytes that occur in code, a third that begin with something delicate."""
    kind = draw.randrange(3)
    if kind == 0:
        return draw.randbytes(LENGTH)
    if kind == 1:
        return bytes(draw.choices(_COMMON, k=LENGTH))
    return (draw.choice(_STARTS) + draw.randbytes(LENGTH))[:LENGTH]


def campaign(seed: int, count: int) -> Counter[str]:
    """Run ``count`` strings; how often each exit came."""
    draw = random.Random(seed)
    memory = PhysicalMemory(4 << 20)
    cpu = Cpu()
    memory.map_into(cpu)
    cpu.connect_ports(lambda port, size: 0, lambda port, size, value: None)
    for first, size, _ in memory.ranges:
        memory.host_fill(first, size, INT3, Reason.IMAGE)
    memory.host_fill(PGD, TABLE + 4096 - PGD, 0, Reason.TABLE)
    quads = memory.mutable_quads(Reason.TABLE)
    tables = [(PGD, PMD | P), (PMD + (LINEAR_CODE >> 21) * 8, TABLE | P | RW | US)]
    tables += [(PMD + (LINEAR_DATA >> 21) * 8, TABLE | P | RW | US)]
    for page in range(PAGES):
        tables.append((TABLE + page * 8, CODE + page * 4096 | P | RW | US))
        tables.append((TABLE + (256 + page) * 8, DATA + page * 4096 | P | RW | US | NX))
    templates = []
    for ring in (0, 3):
        context = cpu.new_context()
        for name in ("es", "ds", "fs", "gs", "ss"):
            context.set_segment(name, 0x18 | ring, 0, 0xFFFFFFFF, 0xCF9300 | ring << 13)
        context.set_segment("cs", 0x10 | ring, 0, 0xFFFFFFFF, 0xCF9B00 | ring << 13)
        context.cr3, context.cr4, context.efer, context.cr0 = PGD, CR4, EFER, CR0
        templates.append(context)
    slots = PAGES * 4096 // STRIDE - 1
    state = cpu.context
    seen: Counter[str] = Counter()
    for number in range(count):
        slot = number % slots
        if slot == 0:
            for place, entry in tables:
                quads[place >> 3] = entry
            cpu.drop_all_code()
        state.copy_from(templates[number & 1])
        for register in range(8):
            state.quads[register] = (
                LINEAR_DATA + draw.randrange(PAGES * 4096) if draw.random() < 0.7 else draw.getrandbits(32)
            )
        memory.host_write(CODE + slot * STRIDE, code(draw), Reason.IMAGE)
        state.eip = LINEAR_CODE + slot * STRIDE
        cpu.flush_tlb()
        try:
            exit_ = cpu.run(BLOCKS)
            vector = getattr(exit_, "vector", None)
            seen[type(exit_).__name__ if vector is None else f"vector {vector}"] += 1
        except SandboxError as error:
            seen[f"refused: {type(error).__name__}"] += 1
            cpu.close()
            cpu = Cpu()
            memory.map_into(cpu)
            cpu.connect_ports(lambda port, size: 0, lambda port, size, value: None)
            state = cpu.context
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("chunk", part(range(CHUNKS), 2))
def test_random_code_is_contained(chunk: int) -> None:
    """A million strings, a quarter of them outside the campaigns.

    None kills its worker, none hangs, and all common ends are reached.
    """
    seen = run_contained(lambda: campaign(chunk, STRINGS), time_limit=300)
    assert seen.total() == STRINGS
    assert {"vector 6", "vector 13", "vector 14", "vector 0", "BlocksSpent", "Halt"} <= seen.keys(), seen
    refused = {name: count for name, count in seen.items() if name.startswith("refused")}
    assert set(refused) <= {"refused: EngineAbortError"}, refused
