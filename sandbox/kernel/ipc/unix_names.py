"""Names of sockets: files, and the abstract ones, of which each type of socket has its own."""

from __future__ import annotations

import struct
from typing import NamedTuple

from sandbox.kernel.abi.errno import EADDRINUSE, ECONNREFUSED, EEXIST, EINVAL, ENOSPC, EPROTOTYPE, KernelError
from sandbox.kernel.abi.flags import S_IFSOCK, W_OK
from sandbox.kernel.abi.socket import AF_UNIX, FAMILY_BYTES, SUN_PATH_BYTES
from sandbox.kernel.fs.namespace import FileSystem
from sandbox.kernel.ipc.af_unix import UnixSocket
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs import namei
from sandbox.kernel.vfs.permission import permission

AUTOBIND_NAMES = 1 << 20


class Address(NamedTuple):
    """``sun_path`` as far as it counts: a path, or NUL and an abstract name."""

    path: bytes

    @property
    def is_abstract(self) -> bool:
        return self.path.startswith(b"\0")


def parse_address(data: bytes) -> Address:
    """``struct sockaddr_un``.  Raises KernelError(EINVAL)."""
    if not FAMILY_BYTES < len(data) <= FAMILY_BYTES + SUN_PATH_BYTES or family_of(data) != AF_UNIX:
        raise KernelError(EINVAL)
    path = data[FAMILY_BYTES:]
    return Address(path if path.startswith(b"\0") else path.partition(b"\0")[0])


def family_of(data: bytes) -> int:
    """``sa_family``, -1 where there is none."""
    return int(struct.unpack_from("<H", data)[0]) if len(data) >= FAMILY_BYTES else -1


class Names:
    """All names of a machine that sockets have."""

    def __init__(self, files: FileSystem) -> None:
        self._files = files
        self._abstract: dict[tuple[int, bytes], UnixSocket] = {}
        self._next = 1

    def bind(self, task: Task, sock: UnixSocket, address: Address) -> None:
        """Give a socket a name.  Raises KernelError(EADDRINUSE, EINVAL), and what making a file raises."""
        if address.is_abstract:
            if sock.address is not None:
                raise KernelError(EINVAL)
            self._take(sock, address.path)
        else:
            self._bind_file(task, sock, address.path)

    def _take(self, sock: UnixSocket, name: bytes) -> None:
        if (sock.type, name) in self._abstract:
            raise KernelError(EADDRINUSE)
        self._abstract[sock.type, name] = sock
        sock.address = name

    def _bind_file(self, task: Task, sock: UnixSocket, path: bytes) -> None:
        root = self._files.root_of(task)
        mode = S_IFSOCK | sock.stat().mode & 0o7777 & ~task.umask
        try:
            if sock.address is not None:
                found = namei.walk(root, task.cwd, path, follow=False, slash_follows=False, who=task.cred)
                raise KernelError(EINVAL if found.dentry is None else EADDRINUSE)
            namei.mknod(root, task.cwd, path, mode, task.cred)
        except KernelError as error:
            raise KernelError(EADDRINUSE) if error.errno == EEXIST else error from None
        sock.node = namei.lookup(root, task.cwd, path, follow=False).inode
        sock.node.socket = sock
        sock.address = path + b"\0"

    def autobind(self, sock: UnixSocket) -> None:
        """A name of five hexadecimal digits, unless it has one.  Raises KernelError(ENOSPC)."""
        if sock.address is not None:
            return
        for _ in range(AUTOBIND_NAMES):
            name = b"\0%05x" % self._next
            self._next = (self._next + 1) % AUTOBIND_NAMES
            if (sock.type, name) not in self._abstract:
                self._take(sock, name)
                return
        raise KernelError(ENOSPC)

    def find(self, task: Task, address: Address, type_: int) -> UnixSocket:
        """The socket of a name.  Raises KernelError(ECONNREFUSED, EPROTOTYPE), and what a walk raises."""
        if address.is_abstract:
            found = self._abstract.get((type_, address.path))
        else:
            inode = namei.lookup(self._files.root_of(task), task.cwd, address.path, who=task.cred).inode
            permission(inode, W_OK, task.cred)
            found = inode.socket if inode.kind == S_IFSOCK else None
        if found is None:
            raise KernelError(ECONNREFUSED)
        if found.type != type_:
            raise KernelError(EPROTOTYPE)
        return found

    def forget(self, sock: UnixSocket) -> None:
        """Its name leads nowhere any more; the file of one stays."""
        if sock.address is not None and self._abstract.get((sock.type, sock.address)) is sock:
            del self._abstract[sock.type, sock.address]
        if sock.node is not None and sock.node.socket is sock:
            sock.node.socket = None
            sock.node = None
