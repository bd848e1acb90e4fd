"""Policies, CPUs, barriers and capabilities; every value was seen on a real Linux (6.18, i386 program, root)."""

from __future__ import annotations

import struct

import pytest

from tests.conftest import Run
from tests.kernel.calls import Call, results

EPERM, ESRCH, EFAULT, EINVAL = -1, -3, -14, -22
DATA = """
prio0:  .long 0
prio3:  .long 3
mask:   .long 1
none:   .long 0
header: .long 0x20080522, 0
odd:    .long 5, 0
less:   .long 0, 1, 0, 0, 0, 0
more:   .long 0, 3, 0, 0, 0, 0
"""


def test_policies(run: Run) -> None:
    got, buf = results(
        run,
        [
            ("sched_getscheduler", 0),
            ("sched_getscheduler", -1),
            ("sched_getscheduler", 99999),
            ("sched_getparam", 0, 0),
            ("sched_getparam", 0, 4),
            ("sched_setscheduler", 0, 1, "offset prio3"),
            ("sched_getscheduler", 0),
            ("sched_getparam", 0, "offset buf"),
            ("sched_setparam", 0, "offset prio0"),
            ("sched_setscheduler", 0, 2, "offset prio3"),
            ("sched_rr_get_interval", 0, "offset buf + 8"),
            ("sched_rr_get_interval", 0, 0),
            ("sched_setscheduler", 0, 0, "offset prio3"),
            ("sched_setscheduler", 0, 0, 0),
            ("sched_setscheduler", 0, 0, 4),
            ("sched_setscheduler", 0, -1, "offset prio0"),
            ("sched_setscheduler", 0, 6, "offset prio0"),
            ("sched_setscheduler", 99999, 0, "offset prio0"),
            ("sched_setscheduler", 0, 0x40000002, "offset prio3"),
            ("sched_getscheduler", 0),
        ],
        DATA,
    )
    assert got == [
        0, EINVAL, ESRCH, EINVAL, EFAULT, 0, 1, 0, EINVAL, 0, 0, EFAULT, EINVAL, EINVAL, EFAULT, EINVAL, EINVAL, ESRCH,
        0, 0x40000002,
    ]  # fmt: skip
    assert struct.unpack_from("<iiii", buf) == (3, 0, 0, 100_000_000)


@pytest.mark.parametrize(
    ("policy", "least", "most"),
    [(-1, EINVAL, EINVAL), (0, 0, 0), (1, 1, 99), (2, 1, 99), (3, 0, 0), (4, EINVAL, EINVAL), (5, 0, 0), (6, 0, 0)],
)
def test_priorities(run: Run, policy: int, least: int, most: int) -> None:
    calls: list[Call] = [("sched_get_priority_min", policy), ("sched_get_priority_max", policy)]
    assert results(run, calls)[0] == [least, most]


def test_cpus(run: Run) -> None:
    got, buf = results(
        run,
        [
            ("sched_setaffinity", 0, 4, "offset mask"),
            ("sched_setaffinity", 0, 1, "offset mask"),
            ("sched_setaffinity", 0, 4, "offset none"),
            ("sched_setaffinity", 0, 0, "offset mask"),
            ("sched_setaffinity", 0, 4, 4),
            ("sched_setaffinity", 99999, 4, "offset mask"),
            ("getcpu", "offset buf", "offset buf + 4", 0),
            ("getcpu", 0, 0, 0),
            ("getcpu", 4, 0, 0),
        ],
        DATA,
    )
    assert got == [0, 0, EINVAL, EINVAL, EFAULT, ESRCH, 0, 0, EFAULT]
    assert buf[:8] == bytes(8)


def test_barriers(run: Run) -> None:
    commands = [(0, 1), (1, 0), (8, 0), (16, 0), (8, 0), (2, 0), (4, 0), (3, 0), (12345, 0), (1, 7)]
    calls: list[Call] = [("membarrier", *each) for each in commands]
    assert results(run, calls)[0] == [EINVAL, 0, EPERM, 0, 0, 0, 0, EINVAL, EINVAL, EINVAL]


def test_capabilities(run: Run) -> None:
    """What was given up does not come back."""
    got, buf = results(
        run,
        [
            ("capget", "offset header", "offset buf"),
            ("capget", "offset odd", 0),
            ("capget", "offset odd", "offset buf"),
            ("capget", 0, 0),
            ("capget", "offset header", 4),
            ("capset", "offset header", "offset less"),
            ("capget", "offset header", "offset buf + 32"),
            ("capset", "offset header", "offset more"),
            ("capset", 4, "offset less"),
        ],
        DATA,
    )
    assert got == [0, 0, 0, EFAULT, EFAULT, 0, 0, EPERM, EFAULT]
    assert struct.unpack_from("<6I", buf) == (0xFFFFFFFF, 0xFFFFFFFF, 0, 0x1FF, 0x1FF, 0)
    assert struct.unpack_from("<6I", buf, 32) == (0, 1, 0, 0, 0, 0)


def test_who_gives_root_up_has_no_capabilities(run: Run) -> None:
    """capabilities(7): effective ones come and go with the effective uid, permitted ones go with the last uid 0."""
    got, buf = results(
        run,
        [
            ("setresuid32", -1, 5, -1),
            ("capget", "offset header", "offset buf"),
            ("setresuid32", -1, 0, -1),
            ("setresuid32", 5, 5, 5),
            ("capget", "offset header", "offset buf + 32"),
        ],
        DATA,
    )
    assert got == [0] * 5
    assert struct.unpack_from("<2I", buf) == (0, 0xFFFFFFFF)
    assert struct.unpack_from("<2I", buf, 32) == (0, 0)


def test_children_begin_where_the_mask_lets_them(run: Run) -> None:
    """On two CPUs the first child would begin on the other one."""
    result = run(
        """
        .set SYS_sched_setaffinity, 241
        .set SYS_sched_getaffinity, 242
        .set SYS_getcpu, 318
_start: sys getcpu, "offset cpu", 0, 0
        mov ecx, [cpu]
        shl dword ptr [mask], cl
        sys sched_setaffinity, 0, 4, "offset mask"
        sys sched_getaffinity, 0, 4, "offset shown"
        mov eax, [mask]
        cmp eax, [shown]
        jne bad
        sys fork
        test eax, eax
        jz child
        sys wait4, -1, "offset status", 0, 0
        sys exit, [status + 1]
child:  sys getcpu, "offset other", 0, 0
        mov eax, [cpu]
        cmp eax, [other]
        jne bad
        sys exit, 0
bad:    sys exit, 1
        .data
cpu:    .long -1
other:  .long -1
mask:   .long 1
shown:  .long 0
status: .long 0, 0
""",
        cpus=2,
    )
    assert result.passed, result.headline()


def test_affinity_moves(run: Run) -> None:
    """sched_setaffinity(2): who runs where it may not any more is elsewhere when the call comes back."""
    calls: list[Call] = []
    for at, mask in enumerate(("two", "one", "four", "two")):
        calls += [("sched_setaffinity", 0, 4, f"offset {mask}"), ("getcpu", f"offset buf + {4 * at}", 0, 0)]
    calls += [("sched_setaffinity", 0, 4, "offset eight"), ("sched_getaffinity", 0, 4, "offset buf + 16")]
    data = DATA + "one: .long 1\ntwo: .long 2\nfour: .long 4\neight: .long 8\n"
    got, buf = results(run, calls, data, cpus=3)
    assert got == [0] * 8 + [EINVAL, 4]
    assert struct.unpack_from("<5I", buf) == (1, 0, 2, 1, 2)
