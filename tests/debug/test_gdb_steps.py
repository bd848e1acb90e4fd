"""What a step of gdb's costs the stub: questions to the worker, which are counted; and that what it keeps is true."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from sandbox.debug.gdb import picture
from sandbox.debug.gdb.picture import LINE
from sandbox.debug.gdb.stub import Stub
from sandbox.debug.rom_target import RomTarget
from sandbox.runner.rom import RomConfig, RomSession
from sandbox.runner.target import Target
from tests.debug.test_gdb_files import stub

STACK = 0xC0000000
PC, SP, BP = 8, 4, 5
STEP = (b"vCont;s:3;c", b"vCont;s:3")


@pytest.fixture
def made() -> Iterator[Stub]:
    with stub() as found:
        yield found


def asked(stub: Stub, *packets: bytes) -> int:
    """Questions to the worker that these packets come to."""
    remote, count = stub._remote, 0
    send = remote._send

    def counting(*request: Any) -> None:
        nonlocal count
        count += 1
        send(*request)

    remote._send = counting  # type: ignore[method-assign]
    for packet in packets:
        assert stub.answer(packet) not in (b"", b"E01")
    remote._send = send  # type: ignore[method-assign]
    return count


def told(reply: bytes | None) -> dict[bytes, bytes]:
    """The fields of a stop reply, by their names."""
    assert reply is not None and reply.startswith(b"T05")
    return dict(field.split(b":", 1) for field in reply[3:].rstrip(b";").split(b";"))


def word(stub: Stub, number: int) -> int:
    return int.from_bytes(bytes.fromhex((stub.answer(b"p%x" % number) or b"").decode()), "little")


@pytest.mark.parametrize("step", STEP)
def test_a_step_is_one_question(made: Stub, step: bytes) -> None:
    """Whatever gdb reads of code and stack behind it."""
    made.answer(step)
    assert asked(made, step) == 1
    fields = told(made.answer(b"?"))
    here, stack = (int.from_bytes(bytes.fromhex(fields[b"%02x" % each].decode()), "little") for each in (PC, SP))
    assert asked(made, b"m%x,1" % here, b"m%x,40" % (here & -64), b"m%x,4" % stack) == 0


def test_a_stop_tells_the_registers_of_the_frame(made: Stub) -> None:
    """EBP, ESP and EIP, as gdbserver does (its features/i386/i386.dat): in the target's byte order."""
    fields = told(made.answer(b"vCont;s:3;c"))
    for number in (BP, SP, PC):
        assert fields[b"%02x" % number] == made.answer(b"p%x" % number)


def test_what_is_set_is_read(made: Stub) -> None:
    made.answer(b"vCont;s:3;c")
    stack = word(made, SP)
    assert made.answer(b"M%x,4:78563412" % stack) == b"OK"
    assert made.answer(b"m%x,4" % stack) == b"78563412"
    assert made.answer(b"P5=efbeadde") == b"OK"
    assert told(made.answer(b"?")).get(b"05", b"efbeadde") == b"efbeadde"
    assert word(made, BP) == 0xDEADBEEF
    line = f"set {{int}}{stack:#x} = 0x55".encode()
    made.answer(b"qRcmd," + line.hex().encode())
    shown = made.answer(b"m%x,4" % stack)
    assert told(made.answer(b"vCont;s:3"))[b"05"] == b"efbeadde"
    assert made.answer(b"m%x,4" % stack) == shown


def test_each_thread_has_its_own_memory(made: Stub) -> None:
    """cow-fork's child writes 8 where its parent has 7 (its source)."""
    made.answer(b"Z0,804814a,1")  # the child, behind its store
    assert told(made.answer(b"vCont;c"))[b"thread"] == b"4"
    assert [made.answer(b"m804a000,4")] == [b"08000000"]
    child = made.answer(b"m%x,40" % (word(made, SP) & -64))
    assert made.answer(b"Hg3") == b"OK"
    assert made.answer(b"m804a000,4") == b"07000000"
    assert word(made, PC) != 0x804814A
    assert made.answer(b"Hg4") == b"OK"
    assert made.answer(b"m%x,40" % (word(made, SP) & -64)) == child
    assert word(made, PC) == 0x804814A


def test_threads_go_on_behind_one_that_stepped_alone(made: Stub) -> None:
    """Who is held back is asked anew where that may have changed, also by going back."""
    made.answer(b"Z0,804814a,1")
    made.answer(b"vCont;c")
    assert told(made.answer(b"vCont;s:4"))[b"thread"] == b"4"
    made.answer(b"vCont;c:4")  # to the child's end: its parent is held
    made.answer(b"bc")
    assert (made.answer(b"vCont;c") or b"")[:1] in (b"W", b"T")


@pytest.mark.parametrize("back", [b"bs", b"bc"])
def test_back_from_where_no_task_may_run(made: Stub, back: bytes) -> None:
    """Also when they may again: the guest stands at its beginning, before which nothing was."""
    here = word(made, PC)
    assert made.answer(b"vCont;c:4") == b"N", "there is no such thread yet, and all that are there are held"
    assert made.answer(back)
    assert word(made, PC) == here
    assert made.answer(b"vCont;c:4") == b"N"
    Stub(made._remote, made._stream._connection)  # another gdb holds nobody back
    made._link.all_go = False
    told(made.answer(back))
    assert word(made, PC) == here
    assert told(made.answer(b"vCont;s:3"))[b"thread"] == b"3"
    assert word(made, PC) == 0x80480BE


@pytest.mark.parametrize("first", [0x1000, 0x1FC0, 0x3FFF80, 0x3FFFC0, 0x400000, 0x3FFFFC0])
def test_lines_that_follow_each_other_are_what_each_is(first: int) -> None:
    """At a page's end, at the end of RAM, behind it."""
    rom = Target("t", "rom", bytes(range(256)) * 16)
    with closing(RomTarget("t", RomSession(rom, RomConfig(ram=4 << 20)))) as target:
        wanted = {first, first + LINE, first + 3 * LINE}
        assert picture.lines(target, wanted) == {at: target.read_physical(at, LINE) for at in wanted}
