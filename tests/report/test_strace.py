"""System calls as strace shows them: against strace's own output, and without an effect on the run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sandbox.kernel.abi.numbers import name_of
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.events import PageFault
from sandbox.kernel.syscalls.table import handlers
from sandbox.report.strace import Strace
from sandbox.report.strace.decode import IN, OUT
from sandbox.report.strace.signatures import SIGNATURES
from sandbox.report.strace.structures import wait_status
from sandbox.runner.run import Session
from tests.conftest import Program
from tests.programs.native import native_root
from tests.programs.table import ENVIRONMENT, ROOT, unpacked


def trace(name: str, program: bytes, arguments: tuple[str, ...] = (), **config: object) -> list[str]:
    config.setdefault("time_limit", 30.0)
    with Session(name, program, arguments, KernelConfig(**config)) as session:  # type: ignore[arg-type]
        lines: list[str] = []
        Strace(session.kernel, lines.append)
        session.finish()
        return lines


def test_every_call_of_the_kernel_has_a_signature() -> None:
    made = {name_of(number) for number, handler in enumerate(handlers()) if handler is not None}
    assert not made - SIGNATURES.keys()
    kinds = {kind for signature in SIGNATURES.values() for kind in signature}
    assert not kinds - IN.keys() - OUT.keys()


LINES = [
    (
        'sys open, "offset name", 0x8241, 0x1a4',
        'open("/tmp/a\\tb\\33", O_WRONLY|O_CREAT|O_TRUNC|O_LARGEFILE, 0644) = 3',
    ),
    (
        'sys open, "offset name", 0',
        'open("/tmp/a\\tb\\33", O_RDONLY)          = -1 ENOENT (No such file or directory)',
    ),
    (
        'sys write, 1, "offset name", 5',
        'write(1, "/tmp/", 5)                    = 5',
    ),
    (
        'sys write, 1, "offset long", 40',
        'write(1, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"..., 40) = 40',
    ),
    (
        "sys write, 1, 0x10, 40",
        "write(1, 0x10, 40)                      = -1 EFAULT (Bad address)",
    ),
    (
        "sys write, 77, 0, 0",
        'write(77, "", 0)                        = -1 EBADF (Bad file descriptor)',
    ),
    (
        "sys mmap2, 0, 8192, 3, 0x22, -1, 0",
        "mmap2(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0xb7ffd000",
    ),
    (
        "sys mprotect, 0x10000, 4096, 5",
        "mprotect(0x10000, 4096, PROT_READ|PROT_EXEC) = -1 ENOMEM (Cannot allocate memory)",
    ),
    (
        'sys pipe, "offset room"',
        "pipe([3, 4])                            = 0",
    ),
    (
        "sys dup2, 1, 9",
        "dup2(1, 9)                              = 9",
    ),
    (
        "sys getpid",
        "getpid()                                = 3",
    ),
    (
        "mov eax, 60\nmov ebx, 0x1c\nint 0x80",
        "umask(034)                              = 022",
    ),
    (
        "mov eax, 37\nmov ebx, 1\nmov ecx, 0\nint 0x80",
        "kill(1, 0)                              = 0",
    ),
    (
        "mov eax, 9999\nint 0x80",
        "= -1 ENOSYS (Function not implemented)",
    ),
    (
        'sys wait4, -1, "offset room", 1, 0',
        "wait4(-1, 0x804a000, WNOHANG, NULL)     = -1 ECHILD (No child processes)",
    ),
    (
        "mov eax, 55\nmov ebx, 1\nmov ecx, 1\nint 0x80",
        "fcntl(1, F_GETFD)                       = 0",
    ),
    (
        "mov eax, 55\nmov ebx, 1\nmov ecx, 2\nmov edx, 1\nint 0x80",
        "fcntl(1, F_SETFD, FD_CLOEXEC)           = 0",
    ),
    (
        "mov eax, 54\nmov ebx, 1\nmov ecx, 0x5401\nmov edx, 0\nint 0x80",
        "ioctl(1, TCGETS, NULL)                  = -1 ENOTTY",
    ),
    (
        "mov eax, 140\nmov ebx, 1\nmov ecx, 1\nmov edx, 2\nmov esi, 0\nmov edi, 2\nint 0x80",
        "_llseek(1, 4294967298, NULL, SEEK_END)  = -1 ESPIPE (Illegal seek)",
    ),
    (
        "mov eax, 162\nmov ebx, offset second\nmov ecx, 0\nint 0x80",
        "nanosleep({tv_sec=0, tv_nsec=500}, NULL) = 0",
    ),
    (
        "mov eax, 26\nmov ebx, 0\nint 0x80",
        "ptrace(PTRACE_TRACEME)                  = 0",
    ),
    (
        "mov eax, 26\nmov ebx, 16\nmov ecx, 9999\nint 0x80",
        "ptrace(PTRACE_ATTACH, 9999)             = -1 ESRCH (No such process)",
    ),
    (
        "mov eax, 26\nmov ebx, 7\nmov ecx, 9999\nmov edx, 0\nmov esi, 12\nint 0x80",
        "ptrace(PTRACE_CONT, 9999, NULL, SIGUSR2) = -1 ESRCH (No such process)",
    ),
    (
        "mov eax, 26\nmov ebx, 0x4200\nmov ecx, 9999\nmov edx, 0\nmov esi, 3\nint 0x80",
        "ptrace(PTRACE_SETOPTIONS, 9999, NULL, PTRACE_O_TRACESYSGOOD|PTRACE_O_TRACEFORK) = -1 ESRCH",
    ),
]
DATA = (
    '\n.section .rodata\nname: .asciz "/tmp/a\\tb\\033"\nlong: .fill 64, 1, 97\nsecond: .long 0, 500\n'
    ".bss\nroom: .skip 64\n"
)


FUTEX_LINES = [
    ((0x10, 9, 9, 0, 0, 1), "FUTEX_WAIT_BITSET, 9, NULL, 0x1) = -1 EFAULT (Bad address)"),
    ((0x10, 0x189, 9, 0, 0, -1), "FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME, 9, NULL, FUTEX_BITSET_MATCH_ANY)"),
    ((0x10, 138, 9, 0, 0, 4), "FUTEX_WAKE_BITSET_PRIVATE, 9, 0x4) = 0"),
    ((0x10, 131, -1, 1, 32, 0), "FUTEX_REQUEUE_PRIVATE, 4294967295, 1, 0x20) = -1 EINVAL (Invalid argument)"),
    ((0x10, 4, 1, 2, 32, 0), "FUTEX_CMP_REQUEUE, 1, 2, 0x20, 0) = -1 EFAULT (Bad address)"),
    ((0x10, 129, 2147483647, 0, 0, 0), "FUTEX_WAKE_PRIVATE, 2147483647) = 0"),
    (
        (0x10, 5, 1, 2, 32, 0xA301F000 - (1 << 32)),
        "FUTEX_WAKE_OP, 1, 2, 0x20, FUTEX_OP_OPARG_SHIFT<<28|FUTEX_OP_OR<<28|0x1f<<12|FUTEX_OP_CMP_LE<<24|0) = -1",
    ),
]
"""Arguments, and what strace 6.1 writes behind the address."""


@pytest.mark.parametrize(("words", "line"), FUTEX_LINES)
def test_futex(program: Program, words: tuple[int, ...], line: str) -> None:
    arguments = ", ".join(map(str, words))
    seen = trace("t", program(f".set SYS_futex, 240\n_start: sys futex, {arguments}\npass\n"))
    assert " ".join(seen[0].split()).startswith(f"futex(0x10, {line}")


@pytest.mark.parametrize(("body", "line"), LINES)
def test_line(program: Program, body: str, line: str) -> None:
    seen = trace("t", program(f"_start: {body}\npass\n{DATA}"))
    assert line in seen[0]
    assert seen[1:] == ["exit(0)                                 = ?", "+++ exited with 0 +++"]


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        (0x137F, "SIGSTOP}]"),
        (0x857F, "SIGTRAP | 0x80}]"),
        (0x1057F, "SIGTRAP}|PTRACE_EVENT_FORK<<16]"),
        (0x80137F, "SIGSTOP}|PTRACE_EVENT_STOP<<16]"),
    ],
)
def test_stops_of_traced_tasks(status: int, shown: str) -> None:
    """As strace 6.1 writes them of tests/kernel/native/ptrace-events.c."""
    assert wait_status(status) == "[{WIFSTOPPED(s) && WSTOPSIG(s) == " + shown


def test_signals_and_ends(program: Program) -> None:
    text = "_start: fork_to child\nsys waitpid, -1, esp, 0\nmov eax, [0x123]\nchild: sys exit, 3\n"
    lines = trace("t", program(text))
    assert [line.removeprefix("[pid     3] ").removeprefix("[pid     4] ") for line in lines] == [
        "fork()                      = 4",
        "waitpid(-1,  <unfinished ...>",
        "exit(3)                     = ?",
        "+++ exited with 3 +++",
        "<... waitpid resumed>[{WIFEXITED(s) && WEXITSTATUS(s) == 3}], 0) = 4",
        "--- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=0x123} ---",
        "+++ killed by SIGSEGV +++",
    ]


def test_looking_changes_nothing(program: Program) -> None:
    text = f'_start: sys open, "offset name", 0\nsys write, 1, "offset long", 5\npass\n{DATA}'
    runs = []
    for strace in (True, False):
        with Session("t", program(text), (), KernelConfig(time_limit=30.0)) as session:
            if strace:
                Strace(session.kernel, lambda line: None)
            faults: list[tuple[int, int, str]] = []
            session.kernel.bus.subscribe(
                lambda event, faults=faults: faults.append((event.time, event.address, event.resolution)), PageFault
            )
            result = session.finish()
            runs.append((faults, result.summary.blocks, result.summary.frames_allocated))
    assert runs[0] == runs[1]


def _comparable(lines: list[str]) -> list[str]:
    """Without what the two kernels may answer differently: pids, addresses, clocks, the vDSO, what they offer."""
    kept = []
    for line in lines:
        line = re.sub(r"^(\[pid +\d+\]|\d+) +", "", line)
        line = re.sub(r"0x[0-9a-f]{5,}", "ADDRESS", line)
        line = re.sub(r" += ", " = ", line).replace("|STATX_MNT_ID", "")
        line = re.sub(r'getrandom\("[^"]*"', "getrandom(", line)
        line = re.sub(r"(si_pid=|kill\(|set_tid_address\(ADDRESS\) = |getp?pid\(\) = |entry_number=)\d+", r"\1N", line)
        line = re.sub(r"(wait4\(.*|clone\(.*) = \d+$", r"\1 = N", line)
        line = line.replace("SA_RESTORER|", "").replace("SA_RESTORER", "0").replace(", sa_restorer=ADDRESS", "")
        if not re.match(r"(rseq|uname|clock_gettime|readlink\(\"/proc)", line):
            kept.append(line)
    return kept


@pytest.mark.skipif(
    not {"busybox-static"} <= unpacked() or shutil.which("strace") is None or os.geteuid() != 0,
    reason="needs strace, `make programs`, and a user who may chroot",
)
@pytest.mark.parametrize(
    "argv",
    [
        ("/bin/busybox", "echo", "hello"),
        ("/bin/busybox", "cat", "/etc/passwd", "/nonesuch"),
        ("/bin/busybox", "wc", "/etc/group"),
        ("/bin/busybox", "mkdir", "-p", "/etc/passwd/x"),
        ("/bin/busybox", "sh", "-c", "cd /etc; pwd; umask 7; exit 4"),
    ],
)
def test_as_strace_itself(argv: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / "out"
    env = {**ENVIRONMENT, "PATH": os.environ["PATH"] + ":/usr/sbin"}
    with native_root() as root:  # what it writes must not stay in the root that other tests read
        subprocess.run(
            ["strace", "-f", "-o", str(out), "chroot", str(root), "/bin/busybox", "env", "-i",
             *(f"{name}={value}" for name, value in ENVIRONMENT.items()), *argv],
            env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
    theirs = out.read_text().splitlines()
    start = next(
        at
        for at, line in enumerate(theirs)
        if f'execve("{argv[0]}", ["{argv[0]}", "{argv[1]}"' in line and '"env"' not in line
    )
    environment = tuple(f"{name}={value}" for name, value in ENVIRONMENT.items())
    mine = trace(argv[0], (ROOT / argv[0].lstrip("/")).read_bytes(), argv[1:], root=ROOT, environment=environment)
    assert _comparable(mine) == _comparable(theirs[start + 1 :])
