"""gdb's registers of an i386, in its order, as bytes: what the target description names and where each comes from.

The features ``org.gnu.gdb.i386.core`` and ``.sse`` are gdb's own (its manual, G.5.2); control registers are ours.
"""

from __future__ import annotations

from collections.abc import Callable

from sandbox.debug.gdb.segments import load_segment
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.target import Refused, Target
from sandbox.kernel.abi.sigcontext import MXCSR_BITS, fsave_image
from sandbox.kernel.process.ptregs import SETTABLE_FLAGS, getreg, putreg
from sandbox.kernel.task.task import Task
from sandbox.records import dataclass

GENERAL = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")
X87 = ("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop")
CONTROL = ("cr0", "cr2", "cr3", "cr4", "efer")
WRAP = 0xFFFFFFFF
_TAGS_AT, _EMPTY = 8, 3
"""Where FSAVE has its tag word, and the tag of a register that is not in use (SDM 1, 8.1.7)."""


@dataclass(frozen=True, slots=True)
class Register:
    """One register: its name, bits, gdb's type, its feature, and how it is read and set; bytes are little-endian.

    ``write`` raises Refused.
    """

    name: str
    bits: int
    type: str
    feature: str
    read: Callable[[Target], bytes]
    write: Callable[[Target, bytes], None] | None = None


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _bytes(value: int) -> bytes:
    return (value & WRAP).to_bytes(4, "little")


def _word(name: str, kind: str = "int") -> Register:
    def write(target: Target, data: bytes) -> None:
        context, value = target.context, _number(data)
        if name == "eflags" and target.kind != "rom" and context.cpl:
            value = context.eflags & ~SETTABLE_FLAGS | value & SETTABLE_FLAGS
        setattr(context, name, value)

    return Register(name, 32, kind, "core", lambda target: _bytes(getattr(target.context, name)), write)


def _program_counter(name: str) -> Register:
    """EIP; of a ROM where its code is, which gdb takes it for: it knows no base of CS.  ``ip`` is the CPU's own."""

    def base(target: Target) -> int:
        return target.context.segment("cs").base if target.kind == "rom" and name == "eip" else 0

    def write(target: Target, data: bytes) -> None:
        target.context.eip = _number(data) - base(target) & WRAP
        target.context.resumes_at = target.context.passes = -1

    kind, feature = ("code_ptr", "core") if name == "eip" else ("int", "system")
    return Register(name, 32, kind, feature, lambda target: _bytes(target.context.eip + base(target)), write)


def _segment(name: str) -> Register:
    return Register(
        name, 32, "int32", "core", lambda target: _bytes(target.context.segment(name).selector),
        lambda target, data: load_segment(target, name, _number(data) & 0xFFFF),
    )  # fmt: skip


def _base(name: str) -> Register:
    def write(target: Target, data: bytes) -> None:
        now = target.context.segment(name)
        target.context.set_segment(name, now.selector, _number(data), now.limit, now.flags)

    return Register(f"{name}_base", 32, "data_ptr", "system", lambda t: _bytes(t.context.segment(name).base), write)


def _st(number: int) -> Register:
    def write(target: Target, data: bytes) -> None:
        control, status, tags, stack = target.context.x87()
        stack[number] = data
        target.context.set_x87(control, status, tags, stack)

    return Register(f"st{number}", 80, "i387_ext", "core", lambda target: target.context.x87()[3][number], write)


def _full_tags(target: Target, tags: int) -> int:
    """The tag word with two bits a register, as FSTENV stores it; ``tags`` has one of each."""
    return _number(fsave_image(target.context.fxsave())[_TAGS_AT : _TAGS_AT + 2]) if tags else 0xFFFF


def _read_x87(target: Target) -> tuple[list[bytes], list[bytes]]:
    """ST(0) to ST(7), and the control registers; the last instruction and its operand cannot be set."""
    control, status, tags, stack = target.context.x87()
    offset, selector, opcode, operand, operand_selector = target.context.last_x87
    values = control, status & 0xFFFF, _full_tags(target, tags), selector, offset, operand_selector, operand, opcode
    return stack, [_bytes(value) for value in values]


def _x87(name: str) -> Register:
    def read(target: Target) -> bytes:
        return _read_x87(target)[1][X87.index(name)]

    def write(target: Target, data: bytes) -> None:
        control, status, tags, stack = target.context.x87()
        value, top = _number(data) & 0xFFFF, status >> 11 & 7
        if name == "fctrl":
            control = value
        elif name == "fstat":
            new_top = value >> 11 & 7
            stack = [stack[number + new_top - top & 7] for number in range(8)]
            status = value
        else:
            tags = sum((value >> 2 * number & 3 != _EMPTY) << number for number in range(8))
        target.context.set_x87(control, status, tags, stack)

    return Register(name, 32, "int", "core", read, write if name in ("fctrl", "fstat", "ftag") else None)


def _xmm(number: int) -> Register:
    return Register(
        f"xmm{number}", 128, "vec128", "sse",
        lambda target: target.context.xmm(number), lambda target, data: target.context.set_xmm(number, data),
    )  # fmt: skip


def _set_mxcsr(target: Target, data: bytes) -> None:
    if _number(data) & ~MXCSR_BITS:
        raise Refused("$mxcsr: reserved bits")
    target.context.mxcsr = _number(data)


def _control(name: str) -> Register:
    def write(target: Target, data: bytes) -> None:
        if name != "cr2" and (target.kind != "rom" or name == "efer"):
            raise Refused(f"${name}: the kernel's own")
        setattr(target.context, name, _number(data))
        if name != "cr2":
            target.cpu.flush_tlb()
            target.cpu.drop_all_code()

    return Register(name, 32, "int", "system", lambda target: _bytes(getattr(target.context, name)), write)


def _task(target: Target) -> Task | None:
    """The task in ring 3 whose registers are looked at."""
    task = target.task if isinstance(target, KernelTarget) else None
    return task if task is not None and target.context is task.context else None


def _read_call(target: Target) -> bytes:
    task = _task(target)
    return _bytes(-1 if task is None else getreg(task, "orig_eax"))


def _set_call(target: Target, data: bytes) -> None:
    task = _task(target)
    if task is not None and isinstance(target, KernelTarget):
        putreg(target.kernel, task, "orig_eax", _number(data))


REGISTERS: tuple[Register, ...] = (
    *(_word(name, "data_ptr" if name in ("esp", "ebp") else "int32") for name in GENERAL),
    _program_counter("eip"), _word("eflags", "i386_eflags"), *(_segment(name) for name in SEGMENTS),
    *(_st(number) for number in range(8)), *(_x87(name) for name in X87),
    *(_xmm(number) for number in range(8)),
    Register("mxcsr", 32, "i386_mxcsr", "sse", lambda target: _bytes(target.context.mxcsr), _set_mxcsr),
    *(_control(name) for name in CONTROL), *(_base(name) for name in SEGMENTS),
    _program_counter("ip"),
    Register("orig_eax", 32, "int", "linux", _read_call, _set_call),
)  # fmt: skip

_ST0 = len(GENERAL) + 2 + len(SEGMENTS)
_BEHIND_X87 = _ST0 + 16

_FLAGS = {
    "i386_eflags": (
        ("CF", 0), ("", 1), ("PF", 2), ("AF", 4), ("ZF", 6), ("SF", 7), ("TF", 8), ("IF", 9), ("DF", 10), ("OF", 11),
        ("NT", 14), ("RF", 16), ("VM", 17), ("AC", 18), ("VIF", 19), ("VIP", 20), ("ID", 21),
    ),
    "i386_mxcsr": (
        ("IE", 0), ("DE", 1), ("ZE", 2), ("OE", 3), ("UE", 4), ("PE", 5), ("DAZ", 6), ("IM", 7), ("DM", 8), ("ZM", 9),
        ("OM", 10), ("UM", 11), ("PM", 12), ("FZ", 15),
    ),
}  # fmt: skip
_VECTORS = (
    ("v4f", "ieee_single", 4, "v4_float"), ("v2d", "ieee_double", 2, "v2_double"), ("v16i8", "int8", 16, "v16_int8"),
    ("v8i16", "int16", 8, "v8_int16"), ("v4i32", "int32", 4, "v4_int32"), ("v2i64", "int64", 2, "v2_int64"),
)  # fmt: skip
"""gdb's own names (its features/i386/32bit-sse.xml)."""


def _types(feature: str) -> str:
    text = ""
    if feature == "sse":
        text += "".join(f'<vector id="{name}" type="{kind}" count="{count}"/>' for name, kind, count, _ in _VECTORS)
        fields = "".join(f'<field name="{field}" type="{name}"/>' for name, _, _, field in _VECTORS)
        text += f'<union id="vec128">{fields}<field name="uint128" type="uint128"/></union>'
    for name, bits in _FLAGS.items():
        if (name == "i386_mxcsr") == (feature == "sse") and feature in ("core", "sse"):
            flags = "".join(f'<field name="{flag}" start="{bit}" end="{bit}"/>' for flag, bit in bits)
            text += f'<flags id="{name}" size="4">{flags}</flags>'
    return text


def target_xml(linux: bool, wide: bool = True) -> str:
    """The target description: of a Linux program, or of a machine, whose code may be 16 bits wide at present."""
    text = '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target version="1.0">'
    text += f"<architecture>{'i386' if wide else 'i8086'}</architecture>"
    text += f"<osabi>{'GNU/Linux' if linux else 'none'}</osabi>"
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


def read_all(target: Target) -> bytes:
    """The bytes of ``g``."""
    found = described(target.kind == "program")
    stack, control = _read_x87(target)  # sixteen registers at once, for a gdb that steps
    rest = (each.read(target) for each in found[_BEHIND_X87:])
    return b"".join((*(each.read(target) for each in found[:_ST0]), *stack, *control, *rest))


def write_all(target: Target, data: bytes) -> None:
    """The bytes of ``G``; registers that are not set from here are skipped.  Raises Refused."""
    at = 0
    for each in REGISTERS:
        size = each.bits // 8
        value = data[at : at + size]
        if each.write is not None and len(value) == size and value != each.read(target):
            each.write(target, value)
        at += size
