"""Exceptions of a program become the signals that Linux sends (arch/i386/kernel/traps.c), with a report."""

from __future__ import annotations

import pytest

from tests.conftest import Run

SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV = 4, 5, 7, 8, 11


@pytest.mark.parametrize(
    ("code", "signal", "said"),
    [
        ("xor edx, edx\n xor ecx, ecx\n div ecx", SIGFPE, "div"),
        ("mov eax, 0x80000000\n cdq\n mov ecx, -1\n idiv ecx", SIGFPE, "idiv"),
        ("ud2", SIGILL, "ud2"),
        ("int3", SIGTRAP, ""),
        ("int 0x81", SIGSEGV, "int"),
        ("int 14", SIGSEGV, "int"),
        ("int 0xF0", SIGSEGV, "int"),
        ("in al, 0x60", SIGSEGV, "in"),
        ("mov dx, 0x3f8\n out dx, al", SIGSEGV, "out"),
        ("cli", SIGSEGV, "cli"),
        ("hlt", SIGSEGV, "hlt"),
        ("mov eax, cr0", SIGSEGV, "cr0"),
        ("mov cr3, eax", SIGSEGV, "cr3"),
        ("invlpg [esp]", SIGSEGV, "invlpg"),
        ("lgdt [esp]", SIGSEGV, "lgdt"),
        ("mov eax, 0x18\n mov ds, eax", SIGSEGV, "ds"),
        ("mov eax, 0xC0000000\n mov eax, [eax]", SIGSEGV, "c0000000"),
        ("mov eax, 0xFFFFFFFC\n mov [eax], eax", SIGSEGV, "fffffffc"),
        ("xor eax, eax\n mov eax, [eax]", SIGSEGV, "00000000"),
        ("xor eax, eax\n jmp eax", SIGSEGV, "00000000"),
        ("mov eax, 0xC0100000\n jmp eax", SIGSEGV, "c0100000"),
    ],
)
def test_signal(run: Run, paging: str, code: str, signal: int, said: str) -> None:
    result = run(f"_start: {code}\n pass", paging=paging)
    assert (result.signal, result.error) == (signal, "")
    ((pid, comm, number, report),) = result.deaths
    assert (pid, comm, number) == (3, "init" if comm == "init" else "t", signal)
    assert said in report.lower()
    assert "eip" in report


def test_page_fault_report_names_place_and_walk(run: Run, paging: str) -> None:
    result = run("_start: mov ecx, 0x1234\nculprit: mov [ecx], ecx\n pass", paging=paging)
    report = result.deaths[0][3]
    first = report.splitlines()[0]
    assert "0x00001234" in first
    assert "user" in first
    assert "write" in first
    assert "<culprit>" in first
    assert "mov" in report.splitlines()[1]
    assert "ecx 00001234" in report
    assert "not present" in report
    assert "no area holds the address" in report


def test_error_codes_in_fault_events(run: Run) -> None:
    """SDM 3A, 4.7: P, W/R, U/S, I/D."""
    for code, expected in (
        ("mov eax, [0x10]", 4),
        ("mov [0x10], eax", 6),
        ("mov eax, [0xC0000000]", 5),
        ("mov [0xC0000000], eax", 7),
        ("mov [_start], eax", 7),
        ("mov eax, esp\n jmp eax", 0x15),
    ):
        result = run(f"_start: {code}\n pass")
        assert result.faults[-1].error_code == expected, code
        assert result.faults[-1].resolution == "sigsegv"


def test_direction_flag_and_registers_survive_faults(run: Run, paging: str) -> None:
    """A fault in the middle of REP MOVS with DF set restarts exactly there."""
    text = """
_start: mov edi, offset page + 8191
        mov esi, offset page + 4095 + 12288
        mov ecx, 8192
        std
        rep movsb
        pushfd
        pop eax
        cld
        test eax, 0x400
        jz bad
        expect ecx, 0, 2
        cmp edi, offset page - 1
        jne bad
        pass
bad:    mov ebx, 9
        jmp fail
        .bss
        .balign 4096
page:   .skip 20480
"""
    result = run(text, paging=paging)
    assert (result.status, result.signal) == (0, 0)


def test_break_no_signal_is_refused_by_nothing_else(run: Run) -> None:
    """With the death left out, the faulting instruction is skipped."""
    assert run("_start: mov eax, [0]\n pass", switches=frozenset({"no-signal-on-fault"}), block_limit=10**6).passed


def test_unknown_system_call(run: Run) -> None:
    for number in (17, 31, 9999, 0xFFFFFFFF):
        result = run(f"_start: mov eax, {number}\n int 0x80\n neg eax\n mov ebx, eax\n mov eax, 1\n int 0x80")
        assert result.status == 38, number


STEPPED = """
        .macro catch                    # signal(SIGTRAP, trap), for one signal
        mov eax, 48
        mov ebx, 5
        mov ecx, offset trap
        int 0x80
        .endm
        .macro step
        pushf
        or dword ptr [esp], 0x100
        popf
        .endm
_start: catch
        pushf
        step
        nop
        {code}
        nop
        popf
        mov ebx, traps
        mov eax, 1
        int 0x80
trap:   inc dword ptr traps
        push ebx
        catch
        pop ebx
        ret
        .data
traps:  .long 0
"""


@pytest.mark.parametrize(
    "code",
    ["0x0f, 0x31", "0x66, 0x0f, 0x31", "0xf3, 0x0f, 0x31", "0x2e, 0x67, 0x0f, 0x31", ", ".join(["0x66"] * 13)
     + ", 0x0f, 0x31", "0x0f, 0x01, 0xf9", "0x66, 0x0f, 0x01, 0xf9"],
)  # fmt: skip
def test_time_stamp_reads_are_single_steps_with_any_prefix(run: Run, code: str) -> None:
    """Natively (AMD, Linux, gcc -m32): four traps over NOP, RDTSC or RDTSCP, NOP, POPF, however it is prefixed."""
    assert run(STEPPED.format(code=f".byte {code}")).status == 4


def test_time_stamp_reads_with_lock_or_too_long(run: Run) -> None:
    """Natively: SIGILL with LOCK, SIGSEGV with 16 bytes."""
    assert run("_start: .byte 0xf0, 0x0f, 0x31\n pass").signal == SIGILL
    assert run("_start: .fill 14, 1, 0x66\n .byte 0x0f, 0x31\n pass").signal == SIGSEGV


def test_rdtsc_in_ring_3_counts_up(run: Run) -> None:
    text = "_start: rdtsc\n mov esi, eax\n mov ecx, 100\n1: loop 1b\n rdtsc\n sub eax, esi\n jbe 2f\n pass\n2: ud2"
    assert run(text).passed


LDT_CODE = """
_start: mov eax, 123                    # modify_ldt: a code segment with base
        mov ebx, 1
        mov ecx, offset wanted
        mov edx, 16
        int 0x80
        push 7
        push offset inside - BASE
        retf
inside: {code}
        .data
wanted: .long 0, BASE, 0xFFFFF, 0x15    # 32 bits, code, limit in pages
        .equ BASE, 0x1000
"""


def test_time_stamp_and_reports_in_a_code_segment_with_a_base(run: Run) -> None:
    """Natively: RDTSC works in such a segment (LDT, base 0x1000), and then UD2 is SIGILL."""
    result = run(LDT_CODE.format(code="rdtsc\n .byte 0x66, 0x0f, 0x31\n ud2"))
    assert result.signal == SIGILL
    assert "ud2" in result.deaths[0][3]
