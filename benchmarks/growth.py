"""What one operation costs among many: of areas, tasks, open files, cached pages, CPUs, and with much RAM.

Each row is a program that makes so many of something and then measures a hundred operations among them; nothing may
grow faster than the logarithm of the number, which is what n log n in all means.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks import programs
from benchmarks.kernelmemory import module_seconds
from benchmarks.kernelrun import boot_seconds, marked_seconds
from benchmarks.measure import Row

ROUNDS = 6
OPERATIONS = 100
SLACK = 1.5
"""How much more than the logarithm's share a cost may grow: noise, and host caches."""
_LIMIT = "mov eax, 75\nmov ebx, 7\nmov ecx, offset limit\nint 0x80\n"
_NAME = 'jmp 9f\nlimit: .long 20000, 20000\nname: .asciz "/tmp/growth"\n9:\n'


@dataclass(frozen=True, slots=True)
class Growth:
    """``make`` builds the program for a number of things; ``sizes`` grow."""

    what: str
    sizes: tuple[int, ...]
    make: Callable[[int], bytes]
    ram: int = 64 << 20


def _times(count: int, body: str, label: int) -> str:
    """The body so many times; it must keep ESI and EBP."""
    return f"mov esi, {count}\n{label}: {body}\ndec esi\njnz {label}b\n"


def _call(number: int, *arguments: str | int) -> str:
    loads = [f"mov {register}, {value}\n" for register, value in zip(("ebx", "ecx", "edx"), arguments, strict=False)]
    return f"{''.join(loads)}mov eax, {number}\nint 0x80\n"


def _measured(setup: str, operation: str, cleanup: str = "") -> bytes:
    mark = _call(20)
    rounds = "\n".join(mark + _times(OPERATIONS, operation, 7) + mark for _ in range(ROUNDS))
    return programs.build(f"{_NAME}{setup}\n{rounds}\n{cleanup}", 64 << 10)


def _mmap(size: int, protection: int) -> str:
    """Anonymous, private, anywhere: its address is in EAX."""
    words = "".join(f"push {word}\n" for word in (0, -1, 0x22, protection, size, 0))
    return f"{words}mov ebx, esp\nmov eax, 90\nint 0x80\nadd esp, 24\n"


def areas(count: int, before: str = "") -> bytes:
    """Neighbours of different protections never merge; the operation maps a page, touches it, and unmaps it."""
    setup = _times(count // 2, _mmap(4096, 1) + _mmap(4096, 3), 1)
    return _measured(
        before + setup, _mmap(4096, 3) + "mov [eax], eax\nmov ebx, eax\nmov ecx, 4096\nmov eax, 91\nint 0x80\n"
    )


def tasks(count: int) -> bytes:
    """Children that wait for ever; the operation is fork, exit and wait of one more."""
    forked = _call(2) + "test eax, eax\njnz 2f\n3: mov eax, 29\nint 0x80\njmp 3b\n2: mov [buffer+esi*4], eax\n"
    one = (
        _call(2)
        + f"test eax, eax\njnz 4f\n{_call(1, 0)}4: mov ebx, eax\nmov eax, 7\nxor ecx, ecx\nxor edx, edx\nint 0x80\n"
    )
    kill = "mov ebx, [buffer+esi*4]\nmov ecx, 9\nmov eax, 37\nint 0x80\n"
    return _measured(_times(count, forked, 1), one, _times(count, kill, 5))


def switches(count: int) -> bytes:
    """Children that wait for ever; the operation gives the CPU to one that runs, and back."""
    forked = _call(2) + "test eax, eax\njnz 2f\n3: mov eax, 29\nint 0x80\njmp 3b\n2: mov [buffer+esi*4], eax\n"
    other = _call(2) + f"test eax, eax\njnz 2f\n3: {_call(158)}jmp 3b\n2: mov [buffer], eax\n"
    kill = "mov ebx, [buffer+esi*4]\nmov ecx, 9\nmov eax, 37\nint 0x80\n"
    end = kill.replace("+esi*4", "")
    return _measured(_times(count, forked, 1) + other, _call(158), _times(count, kill, 5) + end)


def files(count: int) -> bytes:
    """So many descriptors are open; the operation opens one more and closes it."""
    setup = _LIMIT + _times(count, _call(5, "offset name", 0o102, 0o600), 1)
    return _measured(setup, _call(5, "offset name", 0o102, 0o600) + "mov ebx, eax\nmov eax, 6\nint 0x80\n")


def cached(count: int) -> bytes:
    """A file of so many cached pages; the operation reads a byte somewhere in it."""
    setup = _call(5, "offset name", 0o102, 0o600) + "mov ebp, eax\n"
    setup += _times(
        -(-count // 16), "mov ebx, ebp\n" + "mov ecx, offset buffer\nmov edx, 65536\nmov eax, 4\nint 0x80\n", 1
    )
    somewhere = (
        f"imul eax, esi, 2654435761 % {count}\nxor edx, edx\nmov ecx, {count}\ndiv ecx\nshl edx, 12\nmov ecx, edx\n"
    )
    read = "mov ebx, ebp\nmov ecx, offset buffer\nmov edx, 1\nmov eax, 3\nint 0x80\n"
    return _measured(setup, f"{somewhere}mov ebx, ebp\nxor edx, edx\nmov eax, 19\nint 0x80\n{read}")


def sleepers(count: int) -> bytes:
    """Children that sleep for an hour; the operation is a sleep of 10 µs among them."""
    hour = "3: mov dword ptr [buffer+60000], 3600\n" + _call(162, "offset buffer+60000", 0) + "jmp 3b\n"
    forked = _call(2) + f"test eax, eax\njnz 2f\n{hour}2: mov [buffer+esi*4], eax\n"
    short = "mov dword ptr [buffer+60004], 10000\n" + _call(162, "offset buffer+60000", 0)
    kill = "mov ebx, [buffer+esi*4]\nmov ecx, 9\nmov eax, 37\nint 0x80\n"
    return _measured(_times(count, forked, 1), short, _times(count, kill, 5))


def timers(count: int) -> bytes:
    """Timers that are set for an hour from now; the operation sets one more anew."""
    hour = "mov dword ptr [buffer+8], 3600\n"
    settime = f"push esi\nxor ecx, ecx\nmov edx, offset buffer\nxor esi, esi\n{_call(260)}pop esi\n"
    one = _call(259, 1, 0, "offset buffer+60000") + "mov ebx, [buffer+60000]\n" + settime
    limit = _LIMIT.replace("ebx, 7", "ebx, 11")
    return _measured(f"{limit}{hour}" + _times(count, one, 1), "mov ebx, [buffer+60000]\n" + settime)


def signals(count: int) -> bytes:
    """Signals wait for a child that has blocked them; the operation queues one for the parent and takes it."""
    words = "all: .long -1, -1\ninfo: .long 35, 0, -1\n.skip 116\n"
    block = f"xor ebx, ebx\nmov ecx, offset all\nxor edx, edx\nmov esi, 8\n{_call(175)}"
    forked = (
        _call(2)
        + f"test eax, eax\njnz 2f\n3: {_call(29)}jmp 3b\n2: mov [buffer], eax\n{_call(224)}mov [buffer+4], eax\n"
    )
    one = _call(178, "[buffer]", 35, "offset info")
    take = f"push esi\nmov ebx, offset all\nxor ecx, ecx\nxor edx, edx\nmov esi, 8\n{_call(177)}pop esi\n"
    limit = _LIMIT.replace("ebx, 7", "ebx, 11")
    setup = f"jmp 8f\n{words}8: {limit}{block}{forked}" + _times(count, one, 1)
    return _measured(setup, one.replace("[buffer]", "[buffer+4]") + take, _call(37, "[buffer]", 9))


def limited(count: int) -> bytes:
    """``areas`` of which every other one counts for RLIMIT_DATA, which is set."""
    return areas(
        count, "mov eax, 75\nmov ebx, 2\nmov ecx, offset most\nint 0x80\njmp 8f\nmost: .long 1<<30, 1<<30\n8:\n"
    )


MEGABYTES = (1024, 8192, 62 << 10)
GROWTHS = (
    Growth("map, touch and unmap a page, of areas", (10, 1000, 10_000), areas, 256 << 20),
    Growth("the same under RLIMIT_DATA, of areas", (10, 1000, 10_000), limited, 256 << 20),
    Growth("fork, exit and wait, of waiting tasks", (10, 100, 1000), tasks, 256 << 20),
    Growth("sched_yield and back, of waiting tasks", (10, 100, 1000), switches, 256 << 20),
    Growth("sleep for 10 µs, of sleeping tasks", (10, 100, 1000), sleepers, 256 << 20),
    Growth("set a timer, of timers that are set", (10, 100, 1000), timers),
    Growth("queue a signal and take it, of the user's queued ones", (10, 100, 1000), signals),
    Growth("open and close, of open files", (10, 100, 1000), files),
    Growth("read a byte, of cached pages", (100, 10_000, 100_000), cached, 2 << 30),
)


def rows() -> Iterator[Row]:
    for growth in GROWTHS:
        costs = {
            size: statistics.median(marked_seconds(growth.make(size), ram=growth.ram)[1:]) / OPERATIONS
            for size in growth.sizes
        }
        yield _row(growth.what, costs, 1e6, "µs")
    small = programs.small()
    costs = {megabytes: min(boot_seconds(small, megabytes << 20) for _ in range(3)) for megabytes in MEGABYTES}
    yield _row("boot, of MB of RAM", costs, 1e3, "ms")
    costs = {megabytes: min(module_seconds(megabytes << 20) for _ in range(3)) for megabytes in MEGABYTES}
    yield _row("load the first module, of MB of RAM", costs, 1e3, "ms")


def _row(what: str, costs: dict[int, float], scale: float, unit: str) -> Row:
    sizes = list(costs)
    share = math.log(sizes[-1]) / math.log(sizes[0])
    told = ", ".join(f"{size:,}: {costs[size] * scale:.3g}" for size in sizes)
    return Row(what, costs[sizes[-1]] / costs[sizes[0]], "x", round(SLACK * share, 1), False, f"{unit} at {told}")
