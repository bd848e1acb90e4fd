"""What execve can run: ELF programs and scripts that begin with ``#!``."""

from __future__ import annotations

from sandbox.image.elf import Executable, ImageError, parse_executable, program_headers
from sandbox.kernel.abi.errno import EIO, ELIBBAD, ELOOP, ENOEXEC, ETXTBSY, KernelError
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.inode import BLOCK_SIZE, Inode
from sandbox.records import dataclass

HEAD_BYTES = 256
"""Of a file, in which a script's first line must show its interpreter."""
NESTED_SCRIPTS = 5
"""Scripts that are run by scripts, at most."""
_BLANK = b" \t"


@dataclass(slots=True)
class Binary:
    """A program that can be loaded: its file and headers, the loader that it names, and its arguments.

    ``path`` is where the file is, from the root.
    """

    inode: Inode
    path: str
    program: Executable
    argv: list[bytes]
    interpreter: Inode | None = None
    loader: Executable | None = None
    loader_path: str = ""


def find_binary(kernel: Kernel, task: Task, inode: Inode, path: str, name: bytes, argv: list[bytes]) -> Binary:
    """Follow scripts to the program that runs them, and that to its loader; nothing is changed yet.

    Raises KernelError: ENOEXEC (with an ImageError as its cause), ELIBBAD, ELOOP, ETXTBSY, and as ``open_exec``.
    """
    for _ in range(NESTED_SCRIPTS + 1):
        _check_writers(inode)
        head = read_range(inode, 0, HEAD_BYTES)
        if head[:2] != b"#!":
            return _elf(kernel, task, inode, path, argv)
        line = script_line(head)
        argv = [*line, name, *argv[1:]]
        name = line[0]
        inode, path = kernel.files.open_exec(task, name)
    raise KernelError(ELOOP)


def script_line(head: bytes) -> list[bytes]:
    """The interpreter of a script and its one argument, if there is one.  Raises KernelError(ENOEXEC)."""
    line, newline, _ = head.partition(b"\n")
    text = line[2:].lstrip(_BLANK)
    if not newline:
        text = text[: HEAD_BYTES - 3]
        if len(head) == HEAD_BYTES and not any(byte in text for byte in b" \t\0"):
            raise KernelError(ENOEXEC)
    text = text.rstrip(_BLANK)
    end = min((at for at in (text.find(byte) for byte in (b" ", b"\t", b"\0")) if at >= 0), default=len(text))
    name, rest = text[:end], text[end:]
    if not name:
        raise KernelError(ENOEXEC)
    argument = rest.lstrip(_BLANK).partition(b"\0")[0] if rest[:1] != b"\0" else b""
    return [name, argument] if argument else [name]


def read_range(inode: Inode, offset: int, size: int) -> bytes:
    """Bytes of a file for the kernel's own use, fewer at its end."""
    first, last = offset // BLOCK_SIZE, (offset + size - 1) // BLOCK_SIZE
    data = bytearray()
    for index in range(first, last + 1):
        block = inode.read_block(index)
        data += block
        if len(block) < BLOCK_SIZE:
            break
    start = offset - first * BLOCK_SIZE
    return bytes(data[start : start + size])


def _check_writers(inode: Inode) -> None:
    if inode.write_count > 0:
        raise KernelError(ETXTBSY)


def _headers(inode: Inode, path: str) -> Executable:
    """Raises ImageError."""
    data = read_range(inode, 0, BLOCK_SIZE)
    offset, size = program_headers(data, path)
    return parse_executable(data, path, None if offset + size <= len(data) else read_range(inode, offset, size))


def _elf(kernel: Kernel, task: Task, inode: Inode, path: str, argv: list[bytes]) -> Binary:
    try:
        program = _headers(inode, path)
    except ImageError as error:
        raise KernelError(ENOEXEC) from error
    found = Binary(inode, path, program, argv)
    if program.interpreter is not None:
        raw = read_range(inode, *program.interpreter)
        if len(raw) < program.interpreter[1]:
            raise KernelError(EIO) from ImageError(
                path, "truncated: the interpreter's path lies beyond the end of the file"
            )
        if raw[-1:] != b"\0":
            raise KernelError(ENOEXEC) from ImageError(path, "the interpreter's path has no end")
        name = raw.partition(b"\0")[0]
        try:
            found.interpreter, found.loader_path = kernel.files.open_exec(task, name)
        except KernelError as error:
            what = f"needs the interpreter {name.decode(errors='replace')}, which the file tree has not"
            raise KernelError(error.errno) from ImageError(path, what)
        _check_writers(found.interpreter)
        try:
            found.loader = _headers(found.interpreter, found.loader_path)
        except ImageError as error:
            raise KernelError(ELIBBAD) from error
    return found
