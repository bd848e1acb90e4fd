"""What a debugger sets in a page that is shared becomes a page of the process's own: ptrace(2), POKEDATA."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.debug.open import open_target
from sandbox.debug.worker import Remote
from sandbox.runner.target import resolve
from tests.debug.machines import run

PROGRAM = """
        .globl  _start, child, parent, word, other, called, end
_start: movl    $7, word
        call    called
        mov     $2, %eax                # fork
        int     $0x80
        test    %eax, %eax
        jz      child
parent: mov     $7, %eax                # waitpid
        mov     $-1, %ebx
        xor     %ecx, %ecx
        xor     %edx, %edx
        int     $0x80
        call    called
end:    mov     word, %ebx              # the parent's own: 7, and what called says: 30
        add     %eax, %ebx
        mov     $1, %eax
        int     $0x80
child:  call    called
        mov     %eax, %ebx
        add     word, %ebx
        mov     $1, %eax
        int     $0x80
        .balign 4096
called: mov     $30, %eax
        ret
        .data
word:   .long   1
        .bss
other:  .skip   8192
"""


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Remote]:
    (tmp_path / "poked.S").write_text(PROGRAM)
    image = resolve(str(tmp_path / "poked.S"))
    with Remote(lambda: open_target(image, image.config(ram=16 << 20))) as remote:
        yield remote


def word_at(remote: Remote, pid: int, where: str) -> int:
    run(remote, f"task {pid}")
    return int(remote.execute(f"x/1xw {where}").data["values"][0])


def test_the_parent_keeps_its_data(made: Remote) -> None:
    """The child's exit status is 12 + 30; the parent's 7 + 30."""
    run(made, "break child", "continue")
    before = made.execute("when").lines
    run(made, "set dword word = 12")
    assert made.execute("when").lines == before, "the kernel's work takes no time of the guest"
    assert (word_at(made, 4, "word"), word_at(made, 3, "word")) == (12, 7)
    run(made, "catch exit", "delete 1")
    assert "status 0x2a00" in run(made, "continue")[0]
    assert made.execute("continue").stop.headline
    assert run(made, "delete", "continue")[0].startswith("exit status 37")


def test_a_breakpoint_byte_is_in_one_process_only(made: Remote) -> None:
    """The page of the program's file is the page cache's, which both have: only the child runs into INT3."""
    run(made, "break child", "continue", "set byte called = 0xcc")
    assert (word_at(made, 4, "called") & 0xFF, word_at(made, 3, "called") & 0xFF) == (0xCC, 0xB8)
    run(made, "task 4", "catch signal")
    assert "signal 5 to task 4" in run(made, "continue")[0]
    run(made, "delete")
    assert run(made, "continue", "continue")[0].startswith("exit status 37"), "the child dies, the parent does not"


def test_going_back_leads_before_what_was_set(made: Remote) -> None:
    run(made, "break child", "continue", "set dword word = 12", "step", "reverse-step")
    assert word_at(made, 4, "word") in (7, 12)
    run(made, "goto start", "delete", "break end", "continue")
    assert word_at(made, 3, "word") == 7


def test_points_stay_and_count_nothing(made: Remote) -> None:
    """The copying goes through copy_page, which makes entries and frames: nobody is told."""
    run(made, "break child", "continue", "break copy_page", "catch frame", "watch pte word", "catch flush")
    run(made, "set dword word = 12")
    assert [each["hits"] for each in made.execute("info points").data["points"]] == [1, 0, 0, 0, 0]


def test_in_the_middle_of_the_kernels_work_it_is_refused(made: Remote) -> None:
    run(made, "break child", "continue", "delete", "break copy_page", "continue")
    assert "the kernel is at work" in made.execute("set dword word = 12").error
    assert not made.execute("set dword $esp - 64 = 1").error, "its own page"


def test_a_page_that_nobody_shares_is_set_as_it_is(made: Remote) -> None:
    run(made, "break end", "continue", "set dword word = 1")
    assert run(made, "delete", "continue")[0].startswith("exit status 31")
