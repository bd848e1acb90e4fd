"""What ``sandbox doctor`` checks: the engine's behaviour that the sandbox rests on, the tools, this host."""

from __future__ import annotations

import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib import metadata

from sandbox.engine import clockcode, library, mends, stubs, system, watchtest
from sandbox.engine.context import SegmentState
from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import BusError, Exit, Halt, Trap
from sandbox.home import HOME
from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.records import dataclass
from sandbox.suite.mendlist import listed
from sandbox.x86.errors import SandboxError
from sandbox.x86.masks import (
    CR0_PAGED,
    CR4_PAE,
    CR4_SSE,
    EFER_NXE,
    PF_INSTR,
    PF_PROT,
)
from sandbox.x86.paging import NX, RW, US, P

PACKAGES = ("unicorn", "capstone", "keystone-engine", "construct", "pyelftools", "greenlet")
TOOLS = {"as": "--version", "ld": "--version", "nasm": "-v", "gcc": "--version", "gdb": "--version"}
PGD, PMD, TABLE, CODE, FIRST, SECOND = 0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000
LINEAR, DATA = 0x400000, 0x401000
TRAPS = 5000


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.  ``needed`` tells whether the sandbox can do without; ``detail`` is ``seen`` at length, or empty."""

    group: str
    name: str
    passed: bool
    seen: str
    needed: bool = True
    detail: str = ""


class _Bench:
    """A CPU under PAE with one code page and one data page."""

    def __init__(self) -> None:
        self.memory = PhysicalMemory(16 << 20)
        self.cpu = Cpu()
        self.memory.map_into(self.cpu)
        self.quads = self.memory.mutable_quads(Reason.TABLE)
        for place, entry in ((PGD, PMD), (PMD + (LINEAR >> 21) * 8, TABLE | RW | US)):
            self.quads[place >> 3] = entry | P
        self.map(LINEAR, CODE | RW | US)
        self.map(DATA, FIRST | RW | US | NX)
        state = self.cpu.context
        state.cr3, state.cr4, state.efer, state.cr0 = PGD, CR4_SSE | CR4_PAE, EFER_NXE, CR0_PAGED
        self.flat: SegmentState = state.segment("ds")

    def map(self, linear: int, entry: int) -> None:
        self.quads[(TABLE >> 3) + (linear >> 12 & 511)] = entry | P if entry else 0

    def run(self, code: str, blocks: int = 1000) -> Exit:
        self.memory.host_write(CODE, bytes.fromhex(code), Reason.IMAGE)
        self.cpu.drop_all_code()
        self.cpu.context.eip = LINEAR
        return self.cpu.run(blocks)


def checks() -> Iterator[Check]:
    """Every check in turn; none raises."""
    yield from _versions()
    for name, measure in _ENGINE:
        try:
            passed, seen = measure()
        except SandboxError as error:
            passed, seen = False, error.summary
        yield Check("engine", name, passed, seen)
    yield from _mends()
    yield _system()
    yield _counting()
    yield from _tools()
    yield _native()


def _mends() -> Iterator[Check]:
    """What of the engine is mended, or why nothing is: the sandbox goes on without."""
    done = mends.install()
    if not done.helpers:
        yield Check("mends", "none", False, f"the engine is as it is: {done.reason}", needed=False)
    for each in listed(done):
        yield Check("mends", each.name, True, each.line(), False, each.whole())


def _system() -> Check:
    done = system.install()
    if not done.helpers:
        return Check("mends", "system instructions", False, f"as the engine has them: {done.reason}", needed=False)
    seen = f"{len(done.helpers)} helpers: as the manual has them"
    detail = f"{seen}; costs a look at each instruction that is translated"
    return Check("mends", "system instructions", True, seen, False, detail)


def _counting() -> Check:
    reason = "--engine stock" if mends.chosen() == mends.STOCK else clockcode.install()
    if reason is not None:
        return Check("mends", "clock", False, f"counted by a hook on each block, which costs: {reason}", needed=False)
    seen = "blocks count themselves"
    return Check("mends", "clock", True, seen, False, f"{seen}; costs a dozen host instructions a block")


def _versions() -> Iterator[Check]:
    yield Check("host", "python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in PACKAGES:
        try:
            yield Check("packages", name, True, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Check("packages", name, False, "not installed")


def _self_test() -> tuple[bool, str]:
    Cpu().close()
    return True, f"unicorn {'.'.join(map(str, library.ENGINE_VERSION))}, saved state as expected"


def _hooks() -> tuple[bool, str]:
    return True, "host code" if stubs.native_host() else "ctypes callbacks: slower, the same results"


def _watches() -> tuple[bool, str]:
    if reason := stubs.why_not_native():
        return True, f"memory cannot be watched on this host: {reason}"
    watchtest.verify()
    return True, "exact for loads, stores and table walks"


def _many_faults() -> tuple[bool, str]:
    bench = _Bench()
    bench.map(DATA, 0)
    exits = [bench.run("a100104000f4") for _ in range(100)]
    alike = all(isinstance(each, Trap) and each.vector == 14 and each.address == DATA for each in exits)
    return alike, "100 page faults, each with the right CR2" if alike else f"{exits[0]} … {exits[-1]}"


def _stale() -> tuple[bool, str]:
    bench = _Bench()
    for physical, value in ((FIRST, 1), (SECOND, 2)):
        bench.memory.host_write(physical, value.to_bytes(4, "little"), Reason.IMAGE)
    load, load_after_invlpg = "a100104000f4", "0f013d00104000a100104000f4"
    bench.run(load)
    bench.map(DATA, SECOND | RW | US | NX)
    bench.run(load)
    before = bench.cpu.context.eax
    bench.run(load_after_invlpg)
    after = bench.cpu.context.eax
    passed = (before, after) == (1, 2)
    return passed, f"read {before} before INVLPG, {after} after it" + (", not 1 and 2" if not passed else "")


def _no_execute() -> tuple[bool, str]:
    exit_ = _Bench().run("b800104000ffe0")
    if isinstance(exit_, Trap) and exit_.error_code == PF_PROT | PF_INSTR:
        return True, "a fetch from an NX page faults with 0x11"
    return False, f"a fetch from an NX page: {exit_}"


def _accessed_dirty() -> tuple[bool, str]:
    bench = _Bench()
    place = (TABLE >> 3) + (DATA >> 12 & 511)
    bench.run("a100104000f4")
    read = bench.quads[place] >> 5 & 3
    bench.run("a300104000f4")
    written = bench.quads[place] >> 5 & 3
    seen = f"read: A={read & 1} D={read >> 1}, write: A={written & 1} D={written >> 1}"
    return (read, written) == (1, 3), seen


def _division() -> tuple[bool, str]:
    if not stubs.native_host():  # where nothing guards it, it may end this process
        return True, "the smallest number by -1 is not guarded on this host, and was not tried"
    exit_ = _Bench().run("31c0ba00000080b9fffffffff7f9f4")
    passed = isinstance(exit_, Trap) and exit_.vector == 0
    return passed, "the smallest number by -1 is #DE" if passed else f"{exit_}"


def _flags() -> tuple[bool, str]:
    bench = _Bench()
    bench.map(DATA, 0)
    bench.run("f9a100104000f4")
    carry = bench.cpu.context.eflags & 1
    return bool(carry), f"CF across a fault: {carry}"


def _nobody() -> tuple[bool, str]:
    bench = _Bench()
    bench.map(DATA, 0xA0000 | RW | US)
    exit_ = bench.run("a100104000f4")
    passed = isinstance(exit_, BusError) and exit_.physical == 0xA0000
    return passed, "an address that nobody answers is told" if passed else f"{exit_}"


def _clock() -> tuple[bool, str]:
    code = "b9e8030000" + "49" + "75fd" + "f4"
    free, cut = _Bench(), _Bench()
    free.run(code, 1 << 20)
    exit_ = cut.run(code, 7)
    while not isinstance(exit_, Halt):
        exit_ = cut.cpu.run(7)
    counts = free.cpu.clock, cut.cpu.clock
    return counts[0] == counts[1], f"{counts[0]} blocks free, {counts[1]} cut into sevens"


def _trap_cost() -> tuple[bool, str]:
    bench = _Bench()
    bench.run("cd80ebfc")
    began = time.perf_counter()
    for _ in range(TRAPS):
        bench.cpu.run(100)
    return True, f"{(time.perf_counter() - began) / TRAPS * 1e6:.1f} µs from trap to trap"


_ENGINE: tuple[tuple[str, Callable[[], tuple[bool, str]]], ...] = (
    ("self-test", _self_test),
    ("native hooks", _hooks),
    ("watches", _watches),
    ("faults in a row", _many_faults),
    ("stale translations", _stale),
    ("no-execute", _no_execute),
    ("A and D bits", _accessed_dirty),
    ("division overflow", _division),
    ("flags across a fault", _flags),
    ("empty addresses", _nobody),
    ("clock", _clock),
    ("cost of a trap", _trap_cost),
)


def _tools() -> Iterator[Check]:
    for tool, flag in TOOLS.items():
        if shutil.which(tool) is None:
            yield Check("tools", tool, False, "not installed", needed=False)
            continue
        said = subprocess.run([tool, flag], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        yield Check("tools", tool, True, (said.stdout or said.stderr).splitlines()[0].strip(), needed=False)


def _native() -> Check:
    image = HOME / "images" / "demand-zero" / "demand-zero.elf"
    try:
        done = subprocess.run([image], capture_output=True, stdin=subprocess.DEVNULL, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return Check("host", "i386 programs", False, f"do not run natively: {error}", needed=False)
    return Check("host", "i386 programs", done.returncode == 0, "run natively, so this host is an oracle", needed=False)
