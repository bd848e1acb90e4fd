"""Signal frames on a program's stack: laid out as Linux i386 does, and taken back by sigreturn.

From low addresses to high; the FPU's state is aligned so that FXSAVE's image lies at a multiple of 64::

    old form   return address, number, sigcontext, 624 unused bytes, second mask word, trampoline | FPU
    rt form    return address, number, &siginfo, &ucontext, siginfo, ucontext, trampoline         | FPU

The trampolines on the stack are for debuggers, which know a frame by them; handlers return through the vDSO's.
"""

from __future__ import annotations

from struct import pack, unpack_from

from sandbox.engine.context import EAX, ECX, EDX, EIP, ESP, SEGMENT_SLOTS
from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.abi.sigcontext import (
    FSAVE_BYTES,
    FXSAVE_BYTES,
    SIGCONTEXT_BYTES,
    SigContext,
    fsave_image,
    merge_fsave,
)
from sandbox.kernel.abi.siginfo import SIGINFO_BYTES, SigInfo
from sandbox.kernel.abi.signals import (
    MINSIGSTKSZ,
    SA_ONSTACK,
    SA_RESTORER,
    SA_SIGINFO,
    SS_DISABLE,
    SS_ONSTACK,
    UNBLOCKABLE,
)
from sandbox.kernel.abi.structs import SigAction
from sandbox.kernel.base.inject import Breakage
from sandbox.kernel.mm.uaccess import UserAccess
from sandbox.kernel.task.desc import TABLE_LDT, USER_CS, USER_DS, Descriptors
from sandbox.kernel.task.sigqueue import AltStack
from sandbox.kernel.task.task import Task
from sandbox.kernel.task.vdso import RT_SIGRETURN, SIGRETURN, vdso_image
from sandbox.records import replace
from sandbox.x86.masks import AC, DF, RF, STATUS_FLAGS, TF
from sandbox.x86.vectors import Vector

RESTORED_FLAGS = STATUS_FLAGS | TF | DF | RF | AC
"""What sigreturn takes of EFLAGS; the rest stays."""
UNUSED_FPSTATE_BYTES = 624
OLD_FRAME_BYTES = 4 + 4 + SIGCONTEXT_BYTES + UNUSED_FPSTATE_BYTES + 4 + 8
UCONTEXT_BYTES = 4 + 4 + 12 + SIGCONTEXT_BYTES + 8
RT_FRAME_BYTES = 16 + SIGINFO_BYTES + UCONTEXT_BYTES + 8
NO_FRAME = 0xFFFFFFFF
SS_AUTODISARM = 1 << 31


class BadFrame(Exception):
    """What sigreturn found is no frame."""


class BadSelector(BadFrame):
    """The frame's CS or SS is one that IRET refuses, with this exception and error code."""

    def __init__(self, selector: int, vector: Vector, error_code: int) -> None:
        super().__init__(selector)
        self.selector, self.vector, self.error_code = selector, vector, error_code


class SignalFrames:
    """Stores frames on the stacks of programs and takes them back."""

    __slots__ = ("_broken_flag", "_broken_fpu", "_broken_stack", "_desc", "_uaccess")

    def __init__(self, uaccess: UserAccess, desc: Descriptors, broken: Breakage) -> None:
        self._uaccess, self._desc = uaccess, desc
        self._broken_stack, self._broken_flag = broken("no-altstack"), broken("no-trap-flag")
        self._broken_fpu = broken("no-fpu-frame")

    def setup_frame(self, task: Task, info: SigInfo, action: SigAction) -> bool:
        """Put a frame on the program's stack and let it go on in the handler; False when the frame cannot be stored."""
        state, context = task.signals, task.context
        rt = bool(action.flags & SA_SIGINFO)
        size = RT_FRAME_BYTES if rt else OLD_FRAME_BYTES
        stack = AltStack() if self._broken_stack else state.altstack
        frame, fpstate = _place(context.esp, stack, action, size)
        if frame == NO_FRAME:
            return False
        mask = state.blocked if state.saved_mask is None else state.saved_mask
        saved = self._sigcontext(task, fpstate, mask & 0xFFFFFFFF).pack()
        if action.flags & SA_RESTORER:
            restorer = action.restorer
        else:
            restorer = _way_back(task, rt) or frame + size - 8
        if rt:
            at_info, at_context = frame + 16, frame + 16 + SIGINFO_BYTES
            head = pack("<4I", restorer, info.signo, at_info, at_context) + info.pack()
            head += pack("<5I", 0, 0, *state.altstack.words) + saved + pack("<Q", mask) + RT_SIGRETURN
        else:
            at_info = at_context = 0
            head = pack("<2I", restorer, info.signo) + saved + bytes(UNUSED_FPSTATE_BYTES)
            head += pack("<I", mask >> 32) + SIGRETURN
        image = context.fxsave()
        legacy = fsave_image(image, context.quads[SEGMENT_SLOTS["cs"]] & 0xFFFF)
        data = head.ljust(fpstate - frame, b"\0") + legacy + image
        if self._uaccess.copy_to_user(task, frame, data):
            return False
        if state.altstack.flags & SS_AUTODISARM:
            state.altstack = AltStack()
        context.reset_fpu()
        quads = context.quads
        quads[EAX], quads[EDX], quads[ECX] = info.signo, at_info, at_context
        quads[ESP], quads[EIP] = frame, action.handler
        context.resumes_at = context.passes = -1
        context.eflags = context.eflags & ~(DF | TF | RF)
        for name in ("ds", "es"):
            if context.quads[SEGMENT_SLOTS[name]] & 0xFFFF != USER_DS:
                self._desc.load_data(task, name, USER_DS)
        self._desc.load_stack(task, USER_DS)
        self._desc.load_code(task, USER_CS)
        return True

    def _sigcontext(self, task: Task, fpstate: int, oldmask: int) -> SigContext:
        context, state = task.context, task.signals
        gs, fs, es, ds, cs, ss = (
            context.quads[SEGMENT_SLOTS[name]] & 0xFFFF for name in ("gs", "fs", "es", "ds", "cs", "ss")
        )
        esp, flags = context.esp, context.eflags
        if task.ptrace is not None and task.ptrace.forced_flag:
            flags &= ~TF
        return SigContext(
            gs, fs, es, ds, context.edi, context.esi, context.ebp, esp, context.ebx, context.edx, context.ecx,
            context.eax, state.trapno, state.err, context.eip, cs, flags, esp, ss, fpstate, oldmask, state.cr2,
        )  # fmt: skip

    def restore_old_frame(self, task: Task) -> int:
        """sigreturn(2): take back what lies 8 bytes below the stack pointer; EAX.  Raises BadFrame."""
        frame = task.context.esp - 8
        data = self._read(task, frame, OLD_FRAME_BYTES - 8)
        (high,) = unpack_from("<I", data, OLD_FRAME_BYTES - 12)
        saved = SigContext.unpack(data[8 : 8 + SIGCONTEXT_BYTES])
        task.signals.blocked = (saved.oldmask | high << 32) & ~UNBLOCKABLE
        return self._restore(task, saved)

    def restore_rt_frame(self, task: Task) -> int:
        """rt_sigreturn(2): the same for the rt form, 4 bytes below the stack pointer.  Raises BadFrame."""
        at = task.context.esp - 4 + 16 + SIGINFO_BYTES
        data = self._read(task, at, UCONTEXT_BYTES)
        base, flags, size = unpack_from("<3I", data, 8)
        (mask,) = unpack_from("<Q", data, UCONTEXT_BYTES - 8)
        task.signals.blocked = mask & ~UNBLOCKABLE
        result = self._restore(task, SigContext.unpack(data[20 : 20 + SIGCONTEXT_BYTES]))
        stack = AltStack(base, size, flags)
        if stack_is_valid(stack):
            task.signals.altstack = normalized(stack)
        return result

    def _read(self, task: Task, address: int, size: int) -> bytes:
        if address < 0:
            raise BadFrame
        try:
            return self._uaccess.get_user(task, address, size)
        except KernelError as error:
            raise BadFrame from error

    def _restore(self, task: Task, saved: SigContext) -> int:
        """Registers and the FPU from a frame: whatever is in it, the program stays in ring 3.  Raises BadFrame."""
        context = task.context
        context.ebx, context.ecx, context.edx = saved.ebx, saved.ecx, saved.edx
        context.esi, context.edi, context.ebp, context.esp = saved.esi, saved.edi, saved.ebp, saved.esp
        context.eax, context.eip, task.orig_eax = saved.eax, saved.eip, -1
        context.resumes_at = context.passes = -1
        restored = RESTORED_FLAGS & ~TF if self._broken_flag else RESTORED_FLAGS
        context.eflags = context.eflags & ~RESTORED_FLAGS | saved.eflags & restored
        for name in ("gs", "fs", "es", "ds"):
            selector = getattr(saved, name)
            if context.quads[SEGMENT_SLOTS[name]] & 0xFFFF != selector:
                self._desc.load_data(task, name, selector)
        refused = self._load_pair(task, saved.cs | 3, saved.ss | 3)
        if not saved.fpstate:
            context.reset_fpu()
        else:
            data = self._read(task, saved.fpstate, FSAVE_BYTES + FXSAVE_BYTES)
            if not self._broken_fpu:
                context.fxrstor(merge_fsave(data[:FSAVE_BYTES], data[FSAVE_BYTES:]))
        if refused is not None:
            raise refused
        return saved.eax

    def _load_pair(self, task: Task, cs: int, ss: int) -> BadSelector | None:
        """CS and SS of a frame; with one that IRET refuses both are shown as the frame has them, and not loaded.

        An SS of the LDT is loaded in a stack of its own by a 64-bit kernel (espfix64): what goes wrong there is a
        double fault, which is passed off as #GP(0).
        """
        good = [self._reload(task, name, selector) for name, selector in (("cs", cs), ("ss", ss))]
        if all(good):
            return None
        for name, selector in (("cs", cs), ("ss", ss)):
            task.context.quads[SEGMENT_SLOTS[name]] = selector
        if good[0]:
            return BadSelector(ss, Vector.GP, 0 if ss & TABLE_LDT else ss & 0xFFFC)
        return BadSelector(cs, Vector.NP if self._desc.is_absent_code(task, cs) else Vector.GP, cs & 0xFFFC)

    def _reload(self, task: Task, name: str, selector: int) -> bool:
        """CS or SS of a frame; False when IRET would refuse it."""
        if task.context.quads[SEGMENT_SLOTS[name]] & 0xFFFF == selector:
            return True
        return self._desc.load_code(task, selector) if name == "cs" else self._desc.load_stack(task, selector)


def _way_back(task: Task, rt: bool) -> int:
    """Where in the vDSO a handler without SA_RESTORER returns to, 0 in a program that has none."""
    if task.mm is None or not task.mm.vdso:
        return 0
    image = vdso_image()
    return task.mm.vdso + (image.rt_sigreturn if rt else image.sigreturn)


def _place(esp: int, stack: AltStack, action: SigAction, size: int) -> tuple[int, int]:
    """Where a frame and its FPU state go; NO_FRAME when they do not fit on the alternate stack."""
    nested = stack.size and stack.holds(esp) and not stack.flags & SS_AUTODISARM
    entering = False
    if action.flags & SA_ONSTACK and stack.size and not nested:
        esp, entering = stack.base + stack.size, True
    image = esp - FXSAVE_BYTES & ~63
    fpstate = image - FSAVE_BYTES
    frame = (fpstate - size + 4 & ~15) - 4
    if frame < 0 or ((nested or entering) and not stack.holds(frame)):
        return NO_FRAME, 0
    return frame, fpstate


def stack_is_valid(stack: AltStack) -> bool:
    """sigaltstack(2) takes it: known flags, and large enough unless it is switched off."""
    mode = stack.flags & ~SS_AUTODISARM
    return mode == SS_DISABLE or (mode in (0, SS_ONSTACK) and stack.size >= MINSIGSTKSZ)


def normalized(stack: AltStack) -> AltStack:
    """A stack as the kernel keeps it: one that is switched off has no place."""
    if stack.flags & ~SS_AUTODISARM == SS_DISABLE:
        return AltStack(flags=stack.flags)
    return replace(stack)
