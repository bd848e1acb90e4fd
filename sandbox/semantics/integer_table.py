"""The integer instructions of 386 to Pentium II that ring 3 may meet, as ``forms`` reads them (SDM 2D, table A-2).

Not here: what asks for a number of its own machine (CPUID, RDTSC, RDPMC), what enters the kernel (INT 80h, SYSENTER,
SYSCALL), and what Linux answers in the place of a CPU with UMIP (SGDT, SIDT, SLDT, SMSW, STR).
"""

from __future__ import annotations

_ARITHMETIC = ("add", "or", "adc", "sbb", "and", "sub", "xor", "cmp")
_SHIFTS = ("rol", "ror", "rcl", "rcr", "shl", "shr", "", "sar")
_CONDITIONS = ("o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g")
_STRINGS = {"movs": 0xA4, "cmps": 0xA6, "stos": 0xAA, "lods": 0xAC, "scas": 0xAE}


def _made() -> list[str]:
    lines = []
    for row, name in enumerate(_ARITHMETIC):
        forms = ("Eb,Gb", "Ev,Gv", "Gb,Eb", "Gv,Ev", "AL,Ib", "EAX,Iz")
        lines += [f"{name} {row * 8 + at:02X} {operands}" for at, operands in enumerate(forms)]
        lines += [f"{name} 80/{row} Eb,Ib", f"{name} 81/{row} Ev,Iz", f"{name} 83/{row} Ev,Ib"]
    for row, name in enumerate(_SHIFTS):
        if name:
            lines += [f"{name} C0/{row} Eb,Ib", f"{name} C1/{row} Ev,Ib", f"{name} D0/{row} Eb,1"]
            lines += [f"{name} D1/{row} Ev,1", f"{name} D2/{row} Eb,CL", f"{name} D3/{row} Ev,CL"]
    for row, condition in enumerate(_CONDITIONS):
        lines += [f"j{condition} {0x70 + row:02X} Jb", f"j{condition} 0F{0x80 + row:02X} Jz"]
        lines += [f"set{condition} 0F{0x90 + row:02X} Eb", f"cmov{condition} 0F{0x40 + row:02X} Gv,Ev"]
    for name, opcode in _STRINGS.items():
        lines += [f"{name}b {opcode:02X} AL", f"{name}d {opcode + 1:02X} EAX"]
    for row, name in enumerate(("bt", "bts", "btr", "btc")):
        lines += [f"{name} 0F{0xA3 + 8 * row:02X} Ev,Gv", f"{name} 0FBA/{row + 4} Ev,Ib"]
    return lines


TEXT = (
    "\n".join(_made())
    + """
inc 40+ EAX
dec 48+ EAX
inc FE/0 Eb
dec FE/1 Eb
inc FF/0 Ev
dec FF/1 Ev
push 50+ EAX
pop 58+ EAX
push 68 Iz
push 6A Ib
push FF/6 Ev
pop 8F/0 Ev
pushal 60 EAX
popal 61 EAX
pushfd 9C EAX
popfd 9D EAX
push 06 ES
push 0E CS
push 16 SS
push 1E DS
push 0FA0 FS
push 0FA8 GS
pop 07 ES
pop 1F DS
pop 0FA1 FS
pop 0FA9 GS
enter C8 Iw,Ib
leave C9
test 84 Eb,Gb
test 85 Ev,Gv
test A8 AL,Ib
test A9 EAX,Iz
test F6/0 Eb,Ib
test F7/0 Ev,Iz
not F6/2 Eb
not F7/2 Ev
neg F6/3 Eb
neg F7/3 Ev
mul F6/4 Eb
mul F7/4 Ev
imul F6/5 Eb
imul F7/5 Ev
div F6/6 Eb
div F7/6 Ev
idiv F6/7 Eb
idiv F7/7 Ev
imul 0FAF Gv,Ev
imul 69 Gv,Ev,Iz
imul 6B Gv,Ev,Ib
mov 88 Eb,Gb
mov 89 Ev,Gv
mov 8A Gb,Eb
mov 8B Gv,Ev
mov A0 AL,Ob
mov A1 EAX,Ov
mov A2 Ob,AL
mov A3 Ov,EAX
mov B0+ AL,Ib
mov B8+ EAX,Iz
mov C6/0 Eb,Ib
mov C7/0 Ev,Iz
mov 8C Ew,Sw
mov 8E Sw,Ew
lea 8D Gv,M4
xchg 86 Eb,Gb
xchg 87 Ev,Gv
xchg 90+ EAX
movzx 0FB6 Gv,Eb
movzx 0FB7 Gv,Ew
movsx 0FBE Gv,Eb
movsx 0FBF Gv,Ew
shld 0FA4 Ev,Gv,Ib
shld 0FA5 Ev,Gv,CL
shrd 0FAC Ev,Gv,Ib
shrd 0FAD Ev,Gv,CL
bsf 0FBC Gv,Ev
bsr 0FBD Gv,Ev
cmpxchg 0FB0 Eb,Gb
cmpxchg 0FB1 Ev,Gv
xadd 0FC0 Eb,Gb
xadd 0FC1 Ev,Gv
cmpxchg8b 0FC7/1 Mq
bswap 0FC8+
daa 27
das 2F
aaa 37
aas 3F
aam D4 Ib
aad D5 Ib
cwde 98 EAX
cdq 99 EAX
sahf 9E
lahf 9F
xlatb D7
salc D6
cmc F5
clc F8
stc F9
cld FC
std FD
cli FA
sti FB
hlt F4
bound 62 Gv,Mq
arpl 63 Ew,Gw
lar 0F02 Gv,Ew
lsl 0F03 Gv,Ew
verr 0F00/4 Ew
verw 0F00/5 Ew
les C4 Gv,Mp
lds C5 Gv,Mp
lss 0FB2 Gv,Mp
lfs 0FB4 Gv,Mp
lgs 0FB5 Gv,Mp
jecxz E3 Jb
loop E2 Jb
loope E1 Jb
loopne E0 Jb
jmp EB Jb
jmp E9 Jz
call E8 Jz
jmp FF/4 Ev
call FF/2 Ev
ret C3
ret C2 Iw
retf CB
retf CA Iw
iretd CF EAX
jmp FF/5 Mp
call FF/3 Mp
ljmp EA Ap
lcall 9A Ap
int CD Ib
into CE
int1 F1
ud2 0F0B
nop 0F1F/0 Ev
in E4 AL,Ib
in E5 EAX,Ib
in EC AL,DX
in ED EAX,DX
out E6 Ib,AL
out E7 Ib,EAX
out EE DX,AL
out EF DX,EAX
insb 6C AL
insd 6D EAX
outsb 6E AL
outsd 6F EAX
lgdt 0F01/2 M6
lidt 0F01/3 M6
lmsw 0F01/6 Ew
lldt 0F00/2 Ew
ltr 0F00/3 Ew
clts 0F06
invd 0F08
wbinvd 0F09
wrmsr 0F30
rdmsr 0F32
"""
)
