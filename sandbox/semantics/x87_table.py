"""The x87 instructions, as ``forms`` reads them (SDM 2D, tables A-7 to A-22); FISTTP is SSE3's."""

from __future__ import annotations

_ROWS = ("fadd", "fmul", "fcom", "fcomp", "fsub", "fsubr", "fdiv", "fdivr")
_REVERSED = ("fadd", "fmul", "", "", "fsubr", "fsub", "fdivr", "fdiv")


def _made() -> list[str]:
    lines = []
    for row, name in enumerate(_ROWS):
        lines += [f"{name} D8/{row} Md", f"{name} DC/{row} Mq", f"{name} D8{0xC0 + 8 * row:02X}+ ST"]
        lines += [f"fi{name[1:]} DA/{row} Md", f"fi{name[1:]} DE/{row} Mw"]
    for row, name in enumerate(_REVERSED):
        if name:
            lines += [f"{name} DC{0xC0 + 8 * row:02X}+ STI", f"{name}p DE{0xC0 + 8 * row:02X}+ STI"]
    for row, condition in enumerate(("b", "e", "be", "u")):
        lines += [f"fcmov{condition} DA{0xC0 + 8 * row:02X}+ ST", f"fcmovn{condition} DB{0xC0 + 8 * row:02X}+ ST"]
    lines[:] = [line.replace("fcmovnu", "fcmovnu") for line in lines]
    ones = "fchs E0,fabs E1,ftst E4,fxam E5,fld1 E8,fldl2t E9,fldl2e EA,fldpi EB,fldlg2 EC,fldln2 ED,fldz EE,f2xm1 F0,"
    ones += "fyl2x F1,fptan F2,fpatan F3,fxtract F4,fprem1 F5,fdecstp F6,fincstp F7,fprem F8,fyl2xp1 F9,fsqrt FA,"
    ones += "fsincos FB,frndint FC,fscale FD,fsin FE,fcos FF,fnop D0"
    lines += [f"{name} D9{opcode}" for name, opcode in (each.split() for each in ones.split(","))]
    return lines


TEXT = (
    "\n".join(_made())
    + """
fld D9/0 Md
fld DD/0 Mq
fld DB/5 Mt
fld D9C0+ ST
fst D9/2 Md
fst DD/2 Mq
fst DDD0+ ST
fstp D9/3 Md
fstp DD/3 Mq
fstp DB/7 Mt
fstp DDD8+ ST
fild DF/0 Mw
fild DB/0 Md
fild DF/5 Mq
fist DF/2 Mw
fist DB/2 Md
fistp DF/3 Mw
fistp DB/3 Md
fistp DF/7 Mq
fisttp DF/1 Mw
fisttp DB/1 Md
fisttp DD/1 Mq
fbld DF/4 Mt
fbstp DF/6 Mt
fxch D9C8+ ST
fucom DDE0+ ST
fucomp DDE8+ ST
fucompp DAE9
fcompp DED9
fcomi DBF0+ ST
fucomi DBE8+ ST
fcompi DFF0+ ST
fucompi DFE8+ ST
ffree DDC0+ ST
fnstsw DFE0
fnstsw DD/7 Mw
fnstcw D9/7 Mw
fldcw D9/5 Mw
fnstenv D9/6 M28
fldenv D9/4 M28
fnsave DD/6 M108
frstor DD/4 M108
fnclex DBE2
fninit DBE3
wait 9B
"""
)
