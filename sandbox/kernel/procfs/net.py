"""/proc/net: the sockets of the machine (proc_pid_net(5))."""

from __future__ import annotations

from sandbox.kernel.ipc.af_unix import ESTABLISHED, LISTEN, UnixSocket
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.procfs.nodes import Folder, Text, TextFile, fixed

ACCEPTING = 1 << 16
"""__SO_ACCEPTCON of the column Flags."""
UNCONNECTED, CONNECTING, CONNECTED = 1, 2, 3
"""The column St: the states of ``struct socket``; a connection that nobody has accepted is connecting."""


def net_folder(kernel: Kernel, ino: int) -> Folder:
    """/proc/PID/net, the same for all tasks."""
    return fixed(ino, {b"unix": Text(TextFile(kernel.uaccess), ino + 1, lambda: unix(kernel))})


def unix(kernel: Kernel) -> bytes:
    """Every socket of the local family, as unix_seq_show of Linux writes it; an inode's number is its address too."""
    lines = [b"Num       RefCount Protocol Flags    Type St Inode Path\n"]
    found = sorted((sock for sock in kernel.sockets.all if not sock.dead), key=lambda sock: sock.ino)
    for sock in found:
        waits = sock.listener is not None
        state = CONNECTING if waits else CONNECTED if sock.state == ESTABLISHED else UNCONNECTED
        flags = ACCEPTING if sock.state == LISTEN else 0
        references = 2 + sum(each.peer is sock for each in found)
        line = f"{sock.ino:08x}: {references:08X} {0:08X} {flags:08X} {sock.type:04X} {state:02X} "
        lines.append(f"{line}{0 if waits else sock.ino:5d}".encode() + _path(sock) + b"\n")
    return b"".join(lines)


def _path(sock: UnixSocket) -> bytes:
    """The name, with @ for each NUL of an abstract one."""
    if sock.address is None:
        return b""
    if sock.address.startswith(b"\0"):
        return b" " + sock.address.replace(b"\0", b"@")
    return b" " + sock.address.rstrip(b"\0")
