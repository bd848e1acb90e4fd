"""The socket calls as strace shows them.  The lines are those of strace 6.1 for the same program on Linux."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.kernel.calls import Call, listing
from tests.report.test_strace import trace

DATA = """
name:   .short 1
        .asciz "/tmp/sandbox-strace"
hidden: .short 1
        .ascii "\\0hidden"
        .balign 4
room:   .long 110
pair:   .long 0, 0
text:   .ascii "message"
        .balign 4
vector: .long text, 7
into:   .long got, 100
rights: .long 16, 1, 1, 0
out:    .long 0, 0, vector, 1, rights, 16, 0
in:     .long 0, 0, into, 1, control, 100, 0
size:   .long 12
four:   .long 4
on:     .long 1
old:    .long 1, 1, 0
names:  .long 3, address, room
        .bss
address: .skip 110
got:     .skip 100
control: .skip 100
cred:    .skip 12
        .data
"""
CALLS: list[tuple[Call, str]] = [
    (("socket", 1, 1 | 0o2000000 | 0o4000, 0), "socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK, 0) = 3"),
    (("bind", 3, "offset name", 22), 'bind(3, {sa_family=AF_UNIX, sun_path="/tmp/sandbox-strace"}, 22) = 0'),
    (("listen", 3, 4), "listen(3, 4) = 0"),
    (("socketcall", 1, "offset old"), "socket(AF_UNIX, SOCK_STREAM, 0) = 4"),
    (("connect", 4, "offset name", 22), 'connect(4, {sa_family=AF_UNIX, sun_path="/tmp/sandbox-strace"}, 22) = 0'),
    (
        ("connect", 4, "offset hidden", 9),
        'connect(4, {sa_family=AF_UNIX, sun_path=@"hidden"}, 9) = -1 ECONNREFUSED (Connection refused)',
    ),
    (
        ("accept4", 3, "offset address", "offset room", 0o4000),
        "accept4(3, {sa_family=AF_UNIX}, [110 => 2], SOCK_NONBLOCK) = 5",
    ),
    (("socketcall", 6, "offset names"), "getsockname(3, {sa_family=AF_UNIX}, [2 => 22]) = 0"),
    (("setsockopt", 5, 1, 16, "offset on", 4), "setsockopt(5, SOL_SOCKET, SO_PASSCRED, [1], 4) = 0"),
    (("getsockopt", 5, 1, 30, "offset cred", "offset four"), "getsockopt(5, SOL_SOCKET, SO_ACCEPTCONN, [0], [4]) = 0"),
    (
        ("sendmsg", 4, "offset out", 0x4000),
        'sendmsg(4, {msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base="message", iov_len=7}], msg_iovlen=1, '
        "msg_control=[{cmsg_len=16, cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, cmsg_data=[0]}], msg_controllen=16, "
        "msg_flags=0}, MSG_NOSIGNAL) = 7",
    ),
    (
        ("recvmsg", 5, "offset in", 0x40000042),
        'recvmsg(5, {msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base="message", iov_len=100}], msg_iovlen=1, '
        "msg_control=[{cmsg_len=24, cmsg_level=SOL_SOCKET, cmsg_type=SCM_CREDENTIALS, cmsg_data={pid=PID, uid=0, "
        "gid=0}}, {cmsg_len=16, cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, cmsg_data=[6]}], msg_controllen=40, "
        "msg_flags=MSG_CMSG_CLOEXEC}, MSG_PEEK|MSG_DONTWAIT|MSG_CMSG_CLOEXEC) = 7",
    ),
    (("recvfrom", 5, "offset got", 3, 0, 0, 0), 'recvfrom(5, "mes", 3, 0, NULL, NULL) = 3'),
    (("shutdown", 5, 2), "shutdown(5, SHUT_RDWR) = 0"),
    (("unlink", "offset name + 2"), 'unlink("/tmp/sandbox-strace") = 0'),
]  # fmt: skip
WANTED = [line for _, line in CALLS]


def lines(found: list[str], pid: str) -> list[str]:
    """Those of the calls, without padding, and with a word for the pid."""
    tidy = [" ".join(line.split()).replace(f"pid={pid}", "pid=PID") for line in found]
    return [line for line in tidy if not line.startswith(("execve", "write", "exit", "+++", "[ Process", "strace:"))]


def test_lines(program: Program) -> None:
    found = trace("t", program(listing([call for call, _ in CALLS], DATA)))
    assert lines(found, "3") == WANTED


def test_strace_shows_the_same(program: Program, tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("needs strace")
    path, log = tmp_path / "calls", tmp_path / "log"
    path.write_bytes(program(listing([call for call, _ in CALLS], DATA)))
    path.chmod(0o755)
    command = [strace, "-f", "-o", str(log), str(path)]
    if subprocess.run(command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, timeout=60, check=False).returncode:
        pytest.skip("strace may not trace here")
    found = [line.split(maxsplit=1) for line in log.read_text().splitlines()]
    assert lines([line for _, line in found], found[0][0]) == WANTED
