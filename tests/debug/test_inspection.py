"""Page tables, TLBs, frames, faults of the past, as the debugger tells them.

What they must show follows from fork(2) and the images' sources, or from another program that computes the same:
``sandbox.x86.walk`` for dumps, ``sandbox explain`` for faults, which runs to the fault without a debugger.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from sandbox.debug.debugger import Debugger
from sandbox.debug.explain import explain
from sandbox.debug.rom_symbols import CACHE, found, given, known
from sandbox.debug.table_dump import Mode, leaves, runs_of
from sandbox.runner.run import open_session
from sandbox.runner.target import resolve
from sandbox.x86.errors import SandboxError
from sandbox.x86.walk import Access
from tests.debug.machines import KINDS, NAMES, stopped

PROGRAM, LEGACY, MODULE, ROM, ROM_FAULT = KINDS


def check_dump(debugger: Debugger) -> int:
    """Every row of the dump against walks of its first and last page, and of the page behind it."""
    target, context = debugger.target, debugger.target.context
    mode, memory, rows = Mode(context.cr0, context.cr4, context.efer), target.machine.memory, 0
    singles = list(leaves(memory, mode, target.cr3))
    for run in runs_of(memory, mode, target.cr3):
        if run.frame is None:
            continue
        rows += 1
        first = target.walk(run.start, Access())
        last = target.walk(run.end - 4096, Access())
        assert first.physical == run.frame << 12
        assert last.physical is not None
        if run.step is not None:
            assert last.physical == run.frame + ((run.end - run.start) >> 12) - 1 << 12
    covered = sum((run.end - run.start) >> 12 for run in singles)
    mapped = sum((run.end - run.start) >> 12 for run in runs_of(memory, mode, target.cr3) if run.frame is not None)
    assert covered == mapped
    for run in singles:
        if target.walk(run.end & 0xFFFFFFFF).physical is None:
            assert all(each.start != run.end for each in singles)
    return rows


@pytest.mark.parametrize(("name", "changes", "commands"), KINDS, ids=NAMES)
def test_dump_is_what_walks_find(name: str, changes: dict[str, Any], commands: tuple[str, ...]) -> None:
    with stopped(name, changes, commands) as made:
        assert made.call(check_dump) > 1


def test_walk_by_other_tables_and_as_somebody_else() -> None:
    with stopped(*PROGRAM) as made:
        parent = made.execute("walk page mm 3").data["walk"]
        child = made.execute("walk page mm 4").data["walk"]
        assert parent["physical"] == child["physical"], "fork shares the frame"
        assert parent["levels"][0]["physical"] != child["levels"][0]["physical"], "in two page tables"
        cr3 = parent["levels"][0]["physical"]
        assert made.execute(f"walk page cr3 {cr3:#x}").data["walk"] == parent
        assert made.execute("walk page w").data["walk"]["reason"] == "read-only page, write", "until one of them writes"
        assert "supervisor" in made.execute("walk 0xc0100000 as user").data["walk"]["reason"]
        assert made.execute("walk 0xc0100000 as supervisor").data["walk"]["reason"] == "mapped"
        assert "no task 77" in made.execute("walk page mm 77").error


def test_a_shared_frame_has_all_its_owners() -> None:
    with stopped(*PROGRAM) as made:
        physical = made.execute("walk page").data["walk"]["physical"]
        told = made.execute(f"page {physical >> 12:#x}").data["page"]
        assert told["count"] == 2, "parent and child"
        users = {each["whose"] for each in told["mappings"] if each["linear"] < 0xC0000000}
        assert users == {"task 3", "task 4"}
        assert {0xC0000000 + physical} <= {each["linear"] for each in told["mappings"]}, "the direct map has it too"
        who = made.execute("who page").data["who"]
        assert who["physical"] == physical
        assert who["mappings"] == told["mappings"]
        assert "process" in who["owner"]


def test_tlb_of_a_rom_is_marked_where_it_is_stale() -> None:
    """The image changes an entry, reads the old frame through interrupt and OUT, and says so; then INVLPG."""
    with stopped(*ROM) as made:
        entries = {each["start"]: each for each in made.execute("tlb").data["tlb"]["entries"]}
        stale = [each for each in entries.values() if each["stale"]]
        assert [each["start"] for each in stale] == [0x40000000]
        assert stale[0]["frame"] == 0x300, "frame A of the source"
        assert "0x301" in stale[0]["now"], "frame B of the source"
        code = made.execute("code $eip 60").data["code"]
        behind = next(later["address"] for each, later in pairwise(code) if "invlpg" in each["text"])
        made.execute(f"tbreak {behind:#x}")
        made.execute("delete 1")
        assert made.execute("continue").stop is not None
        after = made.execute("tlb").data["tlb"]["entries"]
        assert not any(each["stale"] or each["start"] == 0x40000000 for each in after)


def test_tlb_with_the_sanitizer_is_the_same() -> None:
    """Watched from the start, or run again under watch: the same user translations."""
    name, changes, commands = PROGRAM
    seen = []
    for more in ({}, {"sanitize": frozenset({"tlb"})}):
        with stopped(name, {**changes, **more}, commands) as made:
            told = made.execute("tlb").data["tlb"]["entries"]
            seen.append([each for each in told if each["end"] <= 0xC0000000])
    assert seen[0] == seen[1]
    assert seen[0]


@pytest.mark.parametrize("number", [1, 3, 4])
def test_a_fault_of_the_past_is_told_as_explain_tells_it(number: int) -> None:
    image = resolve("images/cow-fork")
    with open_session(image, image.config(ram=16 << 20)) as session:
        wanted = explain(session, number).to_dict()
    name, changes, _ = PROGRAM
    with stopped(name, changes, ("run to fault 5",)) as made:
        when = made.execute("when").lines
        told = made.execute(f"explain fault {number}").data["explanation"]
        assert {**told, "blocks": 0} == {**wanted, "blocks": 0}
        assert made.execute("when").lines == when


def test_where_it_stands_before_the_answer() -> None:
    with stopped(*LEGACY) as made:
        told = made.execute("explain").data["explanation"]
        assert (told["number"], told["resolution"], told["after"]) == (3, "", None)
        assert any("<- faults" in each for each in told["operands"])
        made.execute("continue")
        assert made.execute("explain fault 3").data["explanation"]["resolution"] == "cow-copy"
        assert "so far there were" in made.execute("explain fault 99").error


def test_a_rom_s_fault() -> None:
    with stopped(*ROM_FAULT) as made:
        told = made.execute("explain").data["explanation"]
        assert told["address"] == int(made.execute("print $cr2").data["value"])
        assert told["operands"] == [f"[{told['address']:#x}] = {told['address']:08x}, 4 bytes read  <- faults"]


def test_faults_so_far_have_their_numbers() -> None:
    with stopped(*PROGRAM) as made:
        told = made.execute("info faults").data["faults"]
        assert [each["number"] for each in told] == list(range(1, len(told) + 1))
        assert len(made.execute("info faults 1").data["faults"]) == 1


def test_signals() -> None:
    with stopped("death-signals", {}, ()) as made:
        assert made.execute("info signals").data["pending"] == []


def test_module_and_vmalloc() -> None:
    with stopped(*MODULE) as made:
        (module,) = made.execute("info modules").data["modules"]
        assert module["name"] == "kmalloc"
        at = int(made.execute("print init_module").data["value"])
        start, size = module["sections"][".text"].values()
        assert start <= at < start + size
        areas = made.execute("info vmalloc").data["vmalloc"]
        assert any(each["start"] <= at < each["end"] for each in areas)
        assert any("module kmalloc" in each for each in made.execute(f"who {at:#x}").data["who"]["places"])


def test_symbols_of_a_rom_come_from_its_source() -> None:
    image = resolve("images/rom-stale-tlb")
    known = found(image)
    assert known.names["rom_entry"] == 0x100000, "the manifest's load address"
    assert known.name(0x100001) == "rom_entry+0x1"
    assert not known.name(0x100000 + len(image.data)), "behind the image nothing has a name"
    image.data = bytes(len(image.data))
    assert not found(image).names, "a source that makes other bytes tells nothing of these"
    assert CACHE.name == "symbols"


def test_symbols_of_a_rom_from_a_listing(tmp_path) -> None:
    listing = tmp_path / "rom.map"
    listing.write_text("00100024 t begin\n80000000 a CR0_PG\n         U missing\n00100000 T entry\n")
    assert given(listing).names == {"begin": 0x100024, "entry": 0x100000}
    listing.write_text("nothing\n")
    with pytest.raises(SandboxError, match="nm"):
        given(listing)


def test_a_number_is_an_address_only_where_something_is(tmp_path) -> None:
    """cow-fork has one page of data behind ``_end`` at most; the ROM's bytes end with its image."""
    with stopped("cow-fork", {}, ()) as made:
        end = made.execute("print _end").data["value"]
        assert made.execute("print _end").lines[0].endswith("<_end>")
        assert "<" not in made.execute(f"print {end + 0x6000:#x}").lines[0]
        assert "<" not in made.execute("print kernel_end + 0x56000").lines[0], "lowmem behind the kernel's image"
        assert made.execute("print child + 3").lines[0].endswith("<child+0x3>")
    image = resolve("images/rom-stale-tlb")
    listing = tmp_path / "rom.map"
    listing.write_text("00100000 T entry\n00104000 B table\n00104100 B last\n")
    symbols = known(image, listing)
    behind = 0x100000 + len(image.data)
    assert behind < 0x104000
    names = [symbols.name(at) for at in (behind - 1, behind, 0x104010, 0x104100, 0x104101)]
    assert names == [f"entry+{len(image.data) - 1:#x}", "", "table+0x10", "last", ""]
