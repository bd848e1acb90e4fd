"""What is mended of the engine: each kind with what it does and costs, as ``sandbox doctor --json`` lists it."""

from __future__ import annotations

from collections.abc import Iterator

from sandbox.engine import mends
from sandbox.records import dataclass

_CHECKED = (
    "boundl", "boundw", "cmpxchg8b", "cmpxchg8b_unlocked", "fxsave", "iret_protected", "lret_protected", "maskmov_mmx",
    "maskmov_xmm",
)  # fmt: skip
_SYSTEM = ("raise_interrupt", "rdpmc")
_STEPPED = ("pause",)
_ROTATES = ("rclb", "rcll", "rclw", "rcrb", "rcrl", "rcrw")


@dataclass(frozen=True, slots=True)
class Mend:
    """One kind: how many helpers of the engine it replaces (0: it works at translation), what it does and costs."""

    name: str
    helpers: int
    brief: str
    what: str
    cost: str

    def line(self) -> str:
        """For a table of 80 columns: what, in a few words."""
        return self._count() + self.brief

    def whole(self) -> str:
        """What it does, and what that costs."""
        return f"{self._count()}{self.what}; costs {self.cost}"

    def _count(self) -> str:
        return f"{self.helpers} helper{'s' * (self.helpers > 1)}: " if self.helpers else ""


def listed(done: mends.Mends) -> Iterator[Mend]:
    """The kinds that are in place."""
    if not done.helpers:
        return
    x87 = [name for name in done.helpers if name.startswith("f") and name not in _CHECKED]
    others = len(done.helpers) - len(x87) - len(_CHECKED + _SYSTEM + _STEPPED + _ROTATES)
    yield Mend(
        "x87", len(x87), "by the host's own instructions",
        "results, flags, stack faults, unmasked responses, #MF, by the host's own instructions",
        "a call each, like the engine's own; `make bench` has both rates",
    )  # fmt: skip
    yield Mend(
        "MMX and SSE", others, "by the host's own instructions",
        "results, flags, #XM, reserved MXCSR bits, by the host's own instructions",
        "a call each, like the engine's own; `make bench` has both rates",
    )  # fmt: skip
    yield Mend("x87 beside MMX", 0, "exponents of MMX, FCMOVcc, FXRSTOR",
               "MMX results set bits 64 to 79, FCMOVcc sees empty registers, FXRSTOR sums up",
               "a store for each MMX result, a call for each FCMOVcc and FXRSTOR")  # fmt: skip
    yield Mend("last x87 instruction", 0, "FIP, FCS, FDP, FDS, FOP",
               "FNSTENV, FXSAVE and their kin store and load where the last instruction and its operand were",
               "three loads and stores for each FNSTSW AX, a call for each FNOP and FXSAVE")  # fmt: skip
    yield Mend("order", 0, "faults of operands come first",
               "MMX state, x87 status and ports wait for the operand's faults, #MF does not",
               "a load and a store for each x87 store, a call for INS and OUTS")  # fmt: skip
    yield Mend("flags", len(_ROTATES), "SETcc, RCL, RCR begin again",
               "SETcc, RCL and RCR that fault, are watched or store into their own block begin again with their flags",
               "up to three stores for each with a memory operand")  # fmt: skip
    yield Mend("single step", len(_STEPPED), "#DB behind PAUSE, lost stores",
               "with TF #DB comes behind PAUSE too, and behind x87 stores and FCMOVcc that an exception leaves out",
               "nothing without TF")  # fmt: skip
    yield Mend("encodings", 0, "what hardware refuses is #UD",
               "what hardware refuses is #UD: forms of LOCK, reserved MMX and SSE, VEX, 8F, C6, C7",
               "nothing when it runs; 20 ns, 3 %, more to translate an instruction")  # fmt: skip
    yield Mend("aliases", 0, "TEST F6 /1, CMPPS, hints at 0F 18 run",
               "TEST at F6 /1 and F7 /1, CMPPS with any immediate, the hints at 0F 18 run; LOCK NEG has NEG's flags",
               "nothing when they run")  # fmt: skip
    yield Mend("alignment", 0, "#GP of MOVAPS and its kin, #AC in ring 3",
               "#GP for MOVAPS and its kin, #AC in ring 3 with CR0.AM and EFLAGS.AC",
               "nothing where operands are aligned: the comparison with the TLB's entry checks it")  # fmt: skip
    yield Mend("alignment of helpers", len(_CHECKED), "#AC of BOUND, IRET and others",
               "#AC of BOUND, CMPXCHG8B, FXSAVE, IRET, RETF, MASKMOVQ and MASKMOVDQU, and the pages of the last two",
               "a test for each")  # fmt: skip
    yield Mend("ICEBP and RDPMC", len(_SYSTEM), "#DB of F1, #GP of RDPMC",
               "#DB behind F1; RDPMC is #GP outside ring 0 without CR4.PCE",
               "a comparison for each INT")  # fmt: skip
