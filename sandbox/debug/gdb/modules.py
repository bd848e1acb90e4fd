"""In the worker: the kernel's image and the loaded modules as files with symbols, at paths of our own making."""

from __future__ import annotations

from io import BytesIO
from xml.sax.saxutils import quoteattr

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from sandbox.debug.debugger import Debugger
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.target import Target
from sandbox.kernel.arch.vmlinux import IMAGE, kernel_image
from sandbox.records import dataclass

OURS = "/sandbox/"
"""Nothing of the guest's lies below this."""
KERNEL = OURS + "kernel/vmlinux.elf"
MODULES = OURS + "modules/"


@dataclass(frozen=True, slots=True)
class Object:
    """A file with symbols, and the linear addresses of its sections; none for where it says itself."""

    path: str
    sections: dict[str, int]

    def command(self) -> str:
        """How gdb takes it."""
        text = self.sections.get(".text")
        words = [f"add-symbol-file target:{self.path}", *([] if text is None else [f"{text:#x}"])]
        words += [f"-s {name} {at:#x}" for name, at in self.sections.items() if name != ".text"]
        return " ".join(words)


def objects(debugger: Debugger) -> list[Object]:
    """The kernel's image and what is loaded now."""
    target = debugger.target
    if not isinstance(target, KernelTarget):
        return []
    loaded = [
        Object(f"{MODULES}{module.name}.o", {name: at for name, (at, size) in module.sections.items() if size})
        for module in target.system.modules.loaded
    ]
    return [Object(KERNEL, {}), *loaded]


def our_file(target: Target, path: str) -> bytes | None:
    """The bytes of one of them."""
    if not isinstance(target, KernelTarget):
        return None
    if path == KERNEL:
        return IMAGE.read_bytes()
    known = {each.name: each.data for each in target.session.to_load}
    known |= {each.name: each.file for each in target.system.modules.loaded}
    return known.get(path.removeprefix(MODULES).removesuffix(".o")) if path.startswith(MODULES) else None


def library_list(debugger: Debugger) -> str:
    """``qXfer:libraries:read`` (gdb's manual, "Library List Format"): the kernel, by its first segment, and modules."""
    target, rows = debugger.target, ""
    for each in objects(debugger):
        places = [("segment", kernel_image().start)]
        if each.path != KERNEL:
            places = [("section", at) for at in _allocated(our_file(target, each.path) or b"", each.sections)]
        told = "".join(f'<{kind} address="{at:#x}"/>' for kind, at in places)
        rows += f"<library name={quoteattr(each.path)}>{told}</library>"
    return f"<library-list>{rows}</library-list>"


def _allocated(data: bytes, sections: dict[str, int]) -> list[int]:
    """Where the sections of an object are, in its own order; gdb wants one that is empty, too."""
    wanted = [each.name for each in ELFFile(BytesIO(data)).iter_sections() if each["sh_flags"] & SH_FLAGS.SHF_ALLOC]
    return [sections.get(name, min(sections.values(), default=0)) for name in wanted]
