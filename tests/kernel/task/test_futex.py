"""Futexes between processes and alone (man 2 futex)."""

from __future__ import annotations

import pytest

from tests.conftest import Run
from tests.kernel.calls import results

EAGAIN, EFAULT, EINVAL, ENOSYS, ETIMEDOUT = -11, -14, -22, -38, -110
WAIT, WAKE, WAIT_BITSET, WAKE_BITSET, PRIVATE, REALTIME = 0, 1, 9, 10, 128, 256

HANDED_OVER = """
        .set SYS_futex, 240
        .set SYS_kill, 37
_start: sys mmap2, 0, 4096, 3, 0x21, -1, 0          /* MAP_SHARED|MAP_ANONYMOUS */
        mov ebp, eax
        fork_to child
        mov edi, eax
        sys nanosleep, "offset moment", 0
        mov dword ptr [ebp], 7
        xor esi, esi
again:  sys futex, ebp, FUTEX_OP, 9
        add esi, eax
        jz again
        push esi
        sys wait4, edi, "offset status", 0, 0
        pop esi
        movzx ebx, byte ptr [status + 1]
        shl esi, 4
        or ebx, esi
        mov eax, SYS_exit
        int 0x80
child:  xor esi, esi
        sys futex, ebp, 0, 0                         /* FUTEX_WAIT while it is 0 */
        mov ebx, [ebp]
        test eax, eax
        jz 1f
        mov ebx, 15
1:      mov eax, SYS_exit
        int 0x80
        .data
moment: .long 0, 20000000
        .bss
        .balign 4
status: .skip 4
"""


@pytest.mark.parametrize("cpus", [1, 2])
def test_a_child_is_woken_through_shared_memory(run: Run, paging: str, cpus: int) -> None:
    """The parent's wake finds one waiter (high digit), the child sees what was stored (low digit)."""
    assert run(HANDED_OVER.replace("FUTEX_OP", "1"), paging=paging, cpus=cpus).status == 0x17


def test_a_private_wake_does_not_reach_other_address_spaces(run: Run) -> None:
    text = HANDED_OVER.replace("FUTEX_OP", "1 | 128").replace("        jz again\n", "")
    result = run(text.replace("sys wait4", "sys kill, edi, 9\n        sys wait4"))
    assert result.status == 0


def test_values_times_and_refusals(run: Run) -> None:
    data = "span: .long 0, 1000000\nbad: .long 0, 1000000000\nfive: .long 5\n"
    got, _ = results(
        run,
        [
            ("futex", "offset five", WAIT, 4, 0),
            ("futex", "offset five", WAIT, 5, "offset span"),
            ("futex", "offset five", WAIT | PRIVATE, 5, "offset span"),
            ("futex", "offset five", WAIT, 5, "offset bad"),
            ("futex", "offset five", WAIT, 5, 0x10),
            ("futex", "offset five + 1", WAIT, 5, 0),
            ("futex", 0x10, WAIT | PRIVATE, 0, 0),
            ("futex", 0x10, WAKE, 1),
            ("futex", 0x10, WAKE | PRIVATE, 1),
            ("futex", "offset five", WAKE, 1),
            ("futex", "offset five", WAIT_BITSET, 5, "offset span", 0, 1),
            ("futex", "offset five", WAIT_BITSET, 5, "offset span", 0, 0),
            ("futex", "offset five", WAIT | REALTIME, 5, "offset span"),
            ("futex", "offset five", 77, 5, 0),
        ],
        data,
    )
    assert got == [
        *(EAGAIN, ETIMEDOUT, ETIMEDOUT, EINVAL, EFAULT, EINVAL, EFAULT, EFAULT, 0),
        *(0, ETIMEDOUT, EINVAL, ENOSYS, ENOSYS),
    ]  # fmt: skip
