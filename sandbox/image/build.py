"""Building the committed images again, and comparing byte for byte."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from sandbox.home import HOME
from sandbox.image.assemble import SOURCES, assemble_source, run_tool, tool_for
from sandbox.image.elf import symbols
from sandbox.image.libc import LibcMissing, link_with_libc
from sandbox.image.manifest import IMAGES, Manifest, load, set_values, source_of
from sandbox.records import dataclass

ROOT = HOME
KERNEL_ELF, KERNEL_MAP = IMAGES / "kernel" / "kernel.elf", IMAGES / "kernel" / "System.map"
VDSO = IMAGES / "kernel" / "vdso.so"


@dataclass(frozen=True, slots=True)
class Built:
    """One image after a build or a check.

    ``same`` tells whether the committed bytes came out again; when the build was skipped for want of a library,
    whether they are those of the recorded hash.
    """

    name: str
    file: Path
    same: bool
    note: str = ""


def manifests(folder: Path = IMAGES) -> list[Manifest]:
    """All manifests below a folder, by name; or the one in it.  Raises ManifestError."""
    own = folder / "manifest.toml"
    return [load(path) for path in ([own] if own.is_file() else sorted(folder.glob("*/manifest.toml")))]


def build(write: bool, folder: Path = IMAGES) -> list[Built]:
    """Build a folder's images, and the kernel with the collection.

    ``write`` puts what is built in place and records tool and hash, else it is only compared.
    Raises AssemblyError, ToolMissing, ManifestError.
    """
    done = [*_kernel(write)] if folder == IMAGES else []
    for manifest in manifests(folder):
        if not manifest.source:
            done.append(Built(manifest.name, manifest.image, manifest.image.is_file(), "no source"))
            continue
        with tempfile.TemporaryDirectory() as scratch:
            fresh = Path(scratch) / manifest.file
            source = source_of(manifest, ROOT)
            try:
                if manifest.libc:
                    link_with_libc(source, fresh, manifest.libc)
                else:
                    assemble_source(source, fresh, manifest.kind, manifest.load)
            except LibcMissing as missing:
                same = manifest.image.is_file() and _digest(manifest.image.read_bytes()) == manifest.sha256
                done.append(Built(manifest.name, manifest.image, same, f"skipped: {missing.summary}"))
                continue
            data = fresh.read_bytes()
        same = manifest.image.is_file() and manifest.image.read_bytes() == data
        digest = _digest(data)
        if write:
            manifest.image.write_bytes(data)
            manifest.image.chmod(0o755 if manifest.kind == "program" else 0o644)
            set_values(manifest.path, "image", {"tool": f'"{tool_for(source)}"', "sha256": f'"{digest}"'})
        elif manifest.sha256 != digest:
            same = False
        done.append(Built(manifest.name, manifest.image, same))
    return done


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _kernel(write: bool) -> list[Built]:
    sources = sorted((SOURCES / "kernel").glob("*.S"))
    with tempfile.TemporaryDirectory() as scratch:
        objects = []
        for source in sources:
            target = Path(scratch) / f"{source.stem}.o"
            run_tool(["as", "--32", "-o", str(target), source.name], source.parent)
            objects.append(str(target))
        linked = Path(scratch) / "kernel.elf"
        run_tool(
            ["ld", "-m", "elf_i386", "--build-id=none", "--no-warn-rwx-segments", "-T",
             str(SOURCES / "kernel" / "link.ld"), "-o", str(linked), *objects]
        )  # fmt: skip
        data = linked.read_bytes()
    listing = "".join(f"{address:08x} T {name}\n" for name, address in symbols(data).items()).encode()
    done = []
    for path, fresh in ((KERNEL_ELF, data), (KERNEL_MAP, listing), (VDSO, _vdso())):
        same = path.is_file() and path.read_bytes() == fresh
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(fresh)
        done.append(Built(path.name, path, same))
    return done


def _vdso() -> bytes:
    """The shared object that every program gets."""
    folder = SOURCES / "kernel" / "vdso"
    with tempfile.TemporaryDirectory() as scratch:
        target, linked = Path(scratch) / "vdso.o", Path(scratch) / "vdso.so"
        run_tool(["as", "--32", "-o", str(target), "vdso.S"], folder)
        run_tool(
            ["ld", "-m", "elf_i386", "-shared", "-Bsymbolic", "-soname", "linux-gate.so.1", "--hash-style=both",
             "--eh-frame-hdr", "--build-id=none", "-s", "-T", "vdso.ld", "-o", str(linked), str(target)],
            folder,
        )  # fmt: skip
        return linked.read_bytes()
