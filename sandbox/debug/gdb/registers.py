"""gdb's registers of an i386, in its order, as bytes: what the target description names and where each comes from.

The features ``org.gnu.gdb.i386.core`` and ``.sse`` are gdb's own (its manual, G.5.2); control registers are ours.
"""

from __future__ import annotations

from collections.abc import Callable

from sandbox.engine.context import CpuContext
from sandbox.records import dataclass

GENERAL = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")
X87 = ("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop")
CONTROL = ("cr0", "cr2", "cr3", "cr4", "efer")
WRAP = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Register:
    """One register: its name, bits, gdb's type, its feature, and how it is read and set; bytes are little-endian."""

    name: str
    bits: int
    type: str
    feature: str
    read: Callable[[CpuContext], bytes]
    write: Callable[[CpuContext, bytes], None] | None = None


def _word(name: str, kind: str = "int") -> Register:
    def read(context: CpuContext) -> bytes:
        return (int(getattr(context, name)) & WRAP).to_bytes(4, "little")

    def write(context: CpuContext, data: bytes) -> None:
        setattr(context, name, int.from_bytes(data, "little"))
        if name == "eip":
            context.resumes_at = context.passes = -1

    return Register(name, 32, kind, "core", read, write)


def _segment(name: str) -> Register:
    return Register(name, 32, "int32", "core", lambda context: context.segment(name).selector.to_bytes(4, "little"))


def _st(number: int) -> Register:
    def write(context: CpuContext, data: bytes) -> None:
        control, status, tags, stack = context.x87()
        stack[number] = data
        context.set_x87(control, status, tags, stack)

    return Register(f"st{number}", 80, "i387_ext", "core", lambda context: context.x87()[3][number], write)


def _x87(name: str) -> Register:
    place = {"fctrl": 0, "fstat": 1, "ftag": 2}.get(name)

    def read(context: CpuContext) -> bytes:
        control, status, tags, _ = context.x87()
        return (0 if place is None else (control, status, tags)[place] & 0xFFFF).to_bytes(4, "little")

    return Register(name, 32, "int", "core", read)


def _xmm(number: int) -> Register:
    return Register(
        f"xmm{number}", 128, "vec128", "sse",
        lambda context: context.xmm(number), lambda context, data: context.set_xmm(number, data),
    )  # fmt: skip


def _control(name: str) -> Register:
    return Register(
        name, 32, "int", "system", lambda context: (int(getattr(context, name)) & WRAP).to_bytes(4, "little")
    )


REGISTERS: tuple[Register, ...] = (
    *(_word(name, "data_ptr" if name in ("esp", "ebp") else "int32") for name in GENERAL),
    _word("eip", "code_ptr"), _word("eflags", "i386_eflags"), *(_segment(name) for name in SEGMENTS),
    *(_st(number) for number in range(8)), *(_x87(name) for name in X87),
    *(_xmm(number) for number in range(8)),
    Register("mxcsr", 32, "i386_mxcsr", "sse", lambda context: context.mxcsr.to_bytes(4, "little")),
    *(_control(name) for name in CONTROL),
    Register("orig_eax", 32, "int", "linux", lambda context: b"\xff" * 4, lambda context, data: None),
)  # fmt: skip

_FLAGS = {
    "i386_eflags": (
        ("CF", 0),
        ("PF", 2),
        ("AF", 4),
        ("ZF", 6),
        ("SF", 7),
        ("TF", 8),
        ("IF", 9),
        ("DF", 10),
        ("OF", 11),
    ),
    "i386_mxcsr": (("IE", 0), ("DE", 1), ("ZE", 2), ("OE", 3), ("UE", 4), ("PE", 5), ("DAZ", 6)),
}
_VECTORS = (
    ("v4f", "ieee_single", 4), ("v2d", "ieee_double", 2), ("v16i8", "int8", 16), ("v8i16", "int16", 8),
    ("v4i32", "int32", 4), ("v2i64", "int64", 2),
)  # fmt: skip


def _types(feature: str) -> str:
    text = ""
    if feature == "sse":
        text += "".join(f'<vector id="{name}" type="{kind}" count="{count}"/>' for name, kind, count in _VECTORS)
        fields = "".join(f'<field name="{name}_" type="{name}"/>'.replace("_", "") for name, _, _ in _VECTORS)
        text += f'<union id="vec128">{fields}<field name="uint128" type="uint128"/></union>'
    for name, bits in _FLAGS.items():
        if (name == "i386_mxcsr") == (feature == "sse") and feature in ("core", "sse"):
            flags = "".join(f'<field name="{flag}" start="{bit}" end="{bit}"/>' for flag, bit in bits)
            text += f'<flags id="{name}" size="4">{flags}</flags>'
    return text


def target_xml(linux: bool) -> str:
    """The target description: of a Linux program, or of a machine."""
    text = '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target version="1.0">'
    text += f"<architecture>i386</architecture><osabi>{'GNU/Linux' if linux else 'none'}</osabi>"
    names = {"core": "org.gnu.gdb.i386.core", "sse": "org.gnu.gdb.i386.sse", "system": "sandbox.system"}
    if linux:
        names["linux"] = "org.gnu.gdb.i386.linux"
    for feature, name in names.items():
        text += f'<feature name="{name}">{_types(feature)}'
        for number, each in enumerate(REGISTERS):
            if each.feature == feature:
                text += f'<reg name="{each.name}" bitsize="{each.bits}" type="{each.type}" regnum="{number}"/>'
        text += "</feature>"
    return text + "</target>"


def described(linux: bool) -> tuple[Register, ...]:
    """The registers of the target description."""
    return REGISTERS if linux else REGISTERS[:-1]


def read_all(context: CpuContext, linux: bool) -> bytes:
    """The bytes of ``g``."""
    return b"".join(each.read(context) for each in described(linux))


def write_all(context: CpuContext, data: bytes) -> None:
    """The bytes of ``G``; registers that are not set from here are skipped."""
    at = 0
    for each in REGISTERS:
        size = each.bits // 8
        value = data[at : at + size]
        if each.write is not None and len(value) == size and value != each.read(context):
            each.write(context, value)
        at += size
