"""Images: of files, of sources given as text, of bytes for a bare machine."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from sandbox.image.manifest import Manifest
from sandbox.runner.target import Target, module_file, resolve
from sandbox.x86.errors import ConfigurationError

ROM_LOAD = 0x100000
SUFFIXES = (".S", ".asm", ".c")


def image(path: str | Path, *arguments: str, modules: Sequence[str | Path] = ()) -> Target:
    """What a path names: a manifest or its folder, an ELF program or module, or a source that is built first.

    ``arguments`` are the program's, or the module's options; ``modules`` are loaded before it, in order.
    Raises SandboxError: NoSuchImage, UnusableFile, ManifestError, AssemblyError, ToolMissing, NoStart, NoLibrary.
    """
    found = resolve(path, arguments)
    found.modules = [*found.modules, *(module_file(each) for each in modules)]
    return found


def source(text: str, *arguments: str, suffix: str = ".S", modules: Sequence[str | Path] = ()) -> Target:
    """An image of a source's text, which is built as a file of that suffix would be: a program or a module.

    ``.S`` is for GNU as with Intel syntax after ``.intel_syntax noprefix`` or ``.include "linux.inc"``, ``.asm`` for
    nasm, ``.c`` for gcc.  Raises what ``image`` raises.
    """
    if suffix not in SUFFIXES:
        raise ConfigurationError(f"a source {suffix!r}: it is {', '.join(SUFFIXES)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"source{suffix}"
        path.write_text(text)
        return image(path, *arguments, modules=modules)


def rom(code: bytes, load: int = ROM_LOAD, entry: int | None = None, name: str = "rom") -> Target:
    """A flat image that has a bare machine to itself, loaded and entered at these physical addresses."""
    manifest = Manifest(Path(f"/nowhere/{name}/manifest.toml"), kind="rom", file=name, load=load, entry=entry)
    return Target(name, "rom", bytes(code), [], manifest)


def assemble(text: str, address: int = 0) -> bytes:
    """The bytes of a few instructions in Intel syntax, by GNU as.  Raises AssemblyError and ToolMissing."""
    from sandbox.image.assemble import assemble_text

    return assemble_text(text, address)
