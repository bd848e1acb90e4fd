"""Over calls, out of functions and from line to line is where stepping singly comes to, and takes no time in loops.

What is expected comes from a walk by ``step``, on which calls and returns are counted.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.debug.debugger import Debugger
from sandbox.debug.open import open_target
from sandbox.debug.stops import StopKind
from sandbox.debug.worker import Remote
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.rom import rom_config
from sandbox.runner.target import Target, resolve

SOURCE = """static volatile int total;
static int loop(int n)
{
    int i;
    for (i = 0; i < n; i++)
        total += i;
    return total;
}
int fact(int n)
{
    if (n < 2)
        return 1;
    return n * fact(n - 1);
}
int busy(int n)
{
    int i, sum = 0;
    for (i = 0; i < n; i++)
        sum += loop(2);
    return sum;
}
int setjmp(int *place) __attribute__((returns_twice));
void longjmp(int *place, int value) __attribute__((noreturn));
__asm__(".globl setjmp, longjmp\\n"
        "setjmp: mov 4(%esp), %eax; mov %ebx, (%eax); mov %esi, 4(%eax); mov %edi, 8(%eax); mov %ebp, 12(%eax);"
        "mov (%esp), %ecx; mov %ecx, 16(%eax); mov %esp, 20(%eax); xor %eax, %eax; ret\\n"
        "longjmp: mov 4(%esp), %edx; mov 8(%esp), %eax; mov (%edx), %ebx; mov 4(%edx), %esi; mov 8(%edx), %edi;"
        "mov 12(%edx), %ebp; mov 16(%edx), %ecx; mov 20(%edx), %esp; add $4, %esp; jmp *%ecx");
static int place[6];
static __attribute__((noinline)) void far(int n)
{
    if (n)
        far(n - 1);
    longjmp(place, 1);
}
int main(void)
{
    int a = fact(4), b;
    b = loop(LOOPS);
    b += busy(LOOPS / 20);
    total = a + b;
    if (!setjmp(place))
        far(3);
    return total & 7;
}
void _start(void)
{
    int status = main();
    __asm__ volatile ("int $0x80" : : "a" (1), "b" (status));
}
"""
WAYS = {
    "O0": ["-O0", "-fno-pic"],
    "O1": ["-O1", "-fno-inline", "-fomit-frame-pointer", "-fno-pic"],
    "bare": ["-O1", "-fno-inline", "-fomit-frame-pointer", "-fno-pic", "-fno-asynchronous-unwind-tables"],
    "O2": ["-O2", "-fno-inline", "-fno-pic", "-fno-asynchronous-unwind-tables"],
}


def program(folder: Path, flags: list[str], loops: int) -> Remote:
    source, made = folder / "legs.c", folder / "legs"
    source.write_text(SOURCE)
    command = ["gcc", "-m32", "-g", "-static", "-nostdlib", "-ffreestanding", f"-DLOOPS={loops}", *flags]
    subprocess.run([*command, "-o", str(made), str(source)], check=True, capture_output=True)
    image = Target("legs", "program", made.read_bytes())
    return Remote(lambda: open_target(image, KernelConfig(ram=16 << 20)))


@pytest.fixture(params=WAYS)
def short(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Remote]:
    with program(tmp_path, WAYS[request.param], 40) as remote:
        yield remote


@pytest.fixture(params=WAYS)
def long(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Remote]:
    with program(tmp_path, WAYS[request.param], 2_000_000) as remote:
        yield remote


Row = tuple[str, str, str, int | None]
"""Moment, mnemonic, function, source line."""


def look(debugger: Debugger) -> Row:
    target, stop = debugger.target, debugger.stop
    assert stop is not None
    code = target.code(stop.moment.eip, 1)
    line = target.source_at(stop.moment.eip)
    name = target.name_of(stop.moment.eip).partition("+")[0]
    begins = line is not None and target.line_begins(stop.moment.eip)
    return stop.moment.text(), code[0].text.split()[0], name, line.number if line is not None and begins else None


def walked(made: Remote) -> list[Row]:
    """Every instruction of the program, in its order."""
    rows = [made.call(look)]
    while not made.execute("step").stop.ended:  # type: ignore[union-attr]
        rows.append(made.call(look))
    return rows


def over(rows: list[Row], at: int) -> int | None:
    """Where ``next`` leads from a row, None for none."""
    if rows[at][1] != "call":
        return at + 1 if at + 1 < len(rows) else None
    depth = 1
    for number in range(at + 1, len(rows)):
        if not depth:
            return number
        depth += {"call": 1, "ret": -1}.get(rows[number][1], 0)
    return None


def out(rows: list[Row], at: int) -> int | None:
    """Where ``finish`` leads from a row."""
    depth = 1
    for number in range(at, len(rows)):
        if not depth:
            return number
        depth += {"call": 1, "ret": -1}.get(rows[number][1], 0)
    return None


def answers(made: Remote, rows: list[Row], at: int, line: str) -> str:
    assert not made.execute(f"goto {rows[at][0]}").error
    stop = made.execute(line).stop
    assert stop is not None
    return "the end" if stop.ended else stop.moment.text()


def test_over_and_out_both_ways(short: Remote) -> None:
    rows = walked(short)
    jump = next(number for number, row in enumerate(rows) if row[2] == "far")
    for at in [*range(3, jump - 2, max(1, jump // 6)), *(n for n in range(jump - 2) if rows[n][2] == "fact")][:12]:
        wanted = over(rows, at)
        assert wanted is not None
        assert answers(short, rows, at, "next") == rows[wanted][0], f"next at {rows[at]}"
        if rows[at][1] != "ret":
            assert short.execute("reverse-next").stop.moment.text() == rows[at][0]  # type: ignore[union-attr]
        if (wanted := out(rows, at)) is not None and wanted < jump:
            assert answers(short, rows, at, "finish") == rows[wanted][0], f"finish at {rows[at]}"


def test_lines_are_those_of_single_steps(short: Remote) -> None:
    rows = walked(short)
    last = next(number for number, row in enumerate(rows) if row[2] == "far")
    began = next(number for number, row in enumerate(rows) if row[2] == "main")
    here = next(number for number in range(began, last) if rows[number][3])
    while (there := next((n for n in range(here + 1, last) if rows[n][3] not in (None, rows[here][3])), None)) and (
        there < began + 60
    ):
        assert answers(short, rows, here, "line") == rows[there][0], f"line at {rows[here]}"
        here = there


def test_long_loops_take_no_time(long: Remote) -> None:
    """Two million turns: by single steps these would be minutes."""
    for command in ("tbreak loop", "continue", "step 20", "finish"):
        answer = long.execute(command)
    assert "<main" in answer.lines[-1]
    after = long.call(look)[0]
    assert "<main" in long.execute("reverse-next").lines[-1]
    assert "call" in long.call(look)[1]
    assert long.execute("next").stop.moment.text() == after  # type: ignore[union-attr]
    for command in ("tbreak busy", "continue", "step 6"):
        long.execute(command)
    assert "<main" in long.execute("finish").lines[-1]
    assert (
        "<busy>" in [long.execute("step 0"), long.execute("reverse-step"), long.execute("reverse-finish")][-1].lines[-1]
    )


def test_a_longjmp_is_an_end(short: Remote) -> None:
    """Out of four activations of ``far`` into ``main``, behind its call of ``setjmp``."""
    for command in ("tbreak setjmp", "continue", "finish"):
        short.execute(command)
    place = short.call(look)
    assert place[2] == "main"
    for command in ("tbreak far", "continue"):
        short.execute(command)
    beginning = short.call(look)
    for command in ("finish", "next"):
        if command == "next":
            short.execute(f"goto {beginning[0]}")
            short.execute("reverse-step")
        stop = short.execute(command).stop
        assert stop is not None and not stop.ended
        assert stop.moment.text().partition(":")[2] == place[0].partition(":")[2], command


KINDS: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("module-asm", {}, ("step 3",)), ("rom-smp-shootdown", {"cpus": 2}, ("step 3",)),
    ("smp-refill", {"cpus": 2, "seed": 3}, ("catch flush", "continue", "delete", "step 5")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changes", "commands"), KINDS, ids=lambda each: str(each))
def test_on_every_kind_of_target(name: str, changes: dict[str, Any], commands: tuple[str, ...]) -> None:
    """``next`` is one ``step``, or one from a call to behind it, wherever it is."""
    image = resolve(f"images/{name}")
    config = rom_config(image, **changes) if image.kind == "rom" else image.config(**changes)
    with Remote(lambda: open_target(image, config)) as made:
        for command in commands:
            made.execute(command)
        for _ in range(14):
            before = made.call(look)
            answer = made.execute("next")
            if answer.stop is None or answer.stop.ended or answer.stop.headline:
                break
            after = made.call(look)
            if before[1] != "ret":
                made.execute("reverse-next")
                assert made.call(look) == before
            if not before[1].startswith(("call", "rep")):
                made.execute("step")
                assert made.call(look) == after
            made.execute(f"goto {after[0]}")


@pytest.mark.parametrize("place", ["on_low", "on_between"])
def test_back_over_an_interrupt_and_its_iret(place: str) -> None:
    """On a bare machine: to the instruction before which, seen by ``reverse-step``, the interrupt came."""
    image = resolve("images/rom-interrupt-window")
    with Remote(lambda: open_target(image, rom_config(image, ram=8 << 20))) as made:
        for line in (f"break {place}", "continue", "delete"):
            made.execute(line)
        before = made.execute("reverse-step").stop
        while made.call(look)[1] != "iretd":
            made.execute("step")
        behind = made.execute("step").stop
        again = made.execute("reverse-next").stop
        assert before is not None and behind is not None and again is not None
        assert again.moment == before.moment != behind.moment


def test_back_over_an_interrupt_in_an_interrupts_place() -> None:
    """Two in a row, the second where the first one's IRET leads (its source: two NOPs): as if neither had been."""
    image = resolve("images/rom-interrupt-window")
    with Remote(lambda: open_target(image, rom_config(image, ram=8 << 20))) as made:
        for line in ("break on_same", "continue", "delete"):
            made.execute(line)
        while made.call(look)[1] != "iretd":
            made.execute("step")
        behind = made.execute("step").stop
        again = made.execute("reverse-next").stop
        assert behind is not None and again is not None
        assert made.call(look)[1] == "nop"
        assert again.moment.eip == behind.moment.eip - 1


JUMPS_OUT = """static void *place[5];
static volatile int total;
static __attribute__((noinline)) void far(int n)
{
    if (n)
        far(n - 1);
    total++;
    __builtin_longjmp(place, 1);
}
static __attribute__((noinline)) int middle(void)
{
    if (__builtin_setjmp(place) == 0)
        far(3);
    total += 2;
    return total;
}
void _start(void)
{
    int status = middle();
    __asm__ volatile ("int $0x80" : : "a" (1), "b" (status));
}
"""


@pytest.mark.parametrize("flags", WAYS.values(), ids=WAYS)
def test_a_jump_out_that_no_name_tells_is_an_end_too(flags: list[str], tmp_path: Path) -> None:
    """``__builtin_longjmp`` in line ends a leg at the latest in the frame above that to which it leads."""
    (tmp_path / "out.c").write_text(JUMPS_OUT)
    made = str(tmp_path / "out")
    command = ["gcc", "-m32", "-static", "-nostdlib", "-ffreestanding", *flags, "-o", made, str(tmp_path / "out.c")]
    subprocess.run(command, check=True, capture_output=True)
    status = subprocess.run([made], check=False).returncode
    with Remote(lambda: open_target(Target("out", "program", Path(made).read_bytes()), KernelConfig())) as remote:
        for line in ("break far", "continue", "delete", "finish"):
            answer = remote.execute(line)
        assert answer.stop is not None and not answer.stop.ended
        assert remote.call(look)[2] in ("middle", "_start")
        remote.execute("goto start")
        for line in ("break middle", "continue", "delete"):
            remote.execute(line)
        while remote.call(look)[2] == "middle":
            assert not remote.execute("next").error
        assert remote.call(look)[2] == "_start"
        ended = remote.execute("continue").stop
        assert ended is not None and ended.headline == f"exit status {status}"


TURNS = {
    "calls": ".globl _start, turn, leaf\n_start: call turn\nturn: call leaf\njmp turn\nleaf: ret\n",
    "none": ".globl _start, turn\n_start: call turn\nturn: jmp turn\n",
    "a register": ".globl _start, turn\n_start: mov $turn, %eax\ncall turn\nturn: jmp *%eax\n",
}


@pytest.mark.parametrize("source", TURNS.values(), ids=TURNS)
def test_ctrl_c_ends_what_never_returns(source: str, tmp_path: Path) -> None:
    (tmp_path / "turn.S").write_text(source)
    command = ["gcc", "-m32", "-nostdlib", "-static", "-o", str(tmp_path / "turn"), str(tmp_path / "turn.S")]
    subprocess.run(command, check=True, capture_output=True)
    image = Target("turn", "program", (tmp_path / "turn").read_bytes())
    with Remote(lambda: open_target(image, KernelConfig(ram=16 << 20, time_limit=0))) as made:
        for line in ("break turn", "continue", "delete"):
            made.execute(line)
        timer = threading.Timer(0.5, os.kill, (made.pid, signal.SIGINT))
        timer.start()
        stop = made.execute("finish").stop
        assert stop is not None and stop.kind is StopKind.INTERRUPT
        assert made.execute("print $eip").data["value"] >= made.execute("print turn").data["value"]
