"""MMX, SSE and SSE2, as ``forms`` reads them (SDM 2D, tables A-3 and A-4)."""

from __future__ import annotations

_BOTH = (
    "60 punpcklbw,61 punpcklwd,62 punpckldq,63 packsswb,64 pcmpgtb,65 pcmpgtw,66 pcmpgtd,67 packuswb,68 punpckhbw,"
    "69 punpckhwd,6A punpckhdq,6B packssdw,74 pcmpeqb,75 pcmpeqw,76 pcmpeqd,D1 psrlw,D2 psrld,D3 psrlq,D5 pmullw,"
    "D8 psubusb,D9 psubusw,DB pand,DC paddusb,DD paddusw,DF pandn,E1 psraw,E2 psrad,E5 pmulhw,E8 psubsb,E9 psubsw,"
    "EB por,EC paddsb,ED paddsw,EF pxor,F1 psllw,F2 pslld,F3 psllq,F5 pmaddwd,F8 psubb,F9 psubw,FA psubd,FC paddb,"
    "FD paddw,FE paddd"
)
"""Of MMX, and with 66h of SSE2."""
_LATER = "DA pminub,DE pmaxub,E0 pavgb,E3 pavgw,E4 pmulhuw,EA pminsw,EE pmaxsw,F6 psadbw"
"""Of SSE for MMX registers, of SSE2 for XMM."""
_SECOND = "D4 paddq,F4 pmuludq,FB psubq"
_FLOATS = "51 sqrt,58 add,59 mul,5C sub,5D min,5E div,5F max"
_SHIFTS = "71/2 psrlw,71/4 psraw,71/6 psllw,72/2 psrld,72/4 psrad,72/6 pslld,73/2 psrlq,73/6 psllq"


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(each.split()[0], each.split()[1]) for each in text.split(",")]


def _mmx() -> list[str]:
    lines = [f"{name} 0F{opcode} Pq,Qq" for opcode, name in _pairs(_BOTH)]
    return lines + [f"{name} 0F{opcode} Nq,Ib" for opcode, name in _pairs(_SHIFTS)]


def _sse() -> list[str]:
    lines = [f"{name} 0F{opcode} Pq,Qq" for opcode, name in _pairs(_LATER)]
    for opcode, name in _pairs(_FLOATS + ",52 rsqrt,53 rcp"):
        lines += [f"{name}ps 0F{opcode} Vx,Wx", f"{name}ss F3 0F{opcode} Vx,Wd"]
    return lines


def _sse2() -> list[str]:
    lines = [f"{name} 66 0F{opcode} Vx,Wx" for opcode, name in _pairs(f"{_BOTH},{_LATER},{_SECOND}")]
    lines += [f"{name} 0F{opcode} Pq,Qq" for opcode, name in _pairs(_SECOND)]
    lines += [f"{name} 66 0F{opcode} Ux,Ib" for opcode, name in _pairs(_SHIFTS + ",73/3 psrldq,73/7 pslldq")]
    for opcode, name in _pairs(_FLOATS):
        lines += [f"{name}pd 66 0F{opcode} Vx,Wx", f"{name}sd F2 0F{opcode} Vx,Wq"]
    return lines


MMX = (
    "\n".join(_mmx())
    + """
movd 0F6E Pq,Ed
movd 0F7E Ed,Pq
movq 0F6F Pq,Qq
movq 0F7F Qq,Pq
emms 0F77
"""
)
SSE = (
    "\n".join(_sse())
    + """
movups 0F10 Vx,Wx
movups 0F11 Wx,Vx
movss F3 0F10 Vx,Wd
movss F3 0F11 Wd,Vx
movlps 0F12 Vx,Mq
movlps 0F13 Mq,Vx
movhlps 0F12 Vx,Ux
unpcklps 0F14 Vx,Wx
unpckhps 0F15 Vx,Wx
movhps 0F16 Vx,Mq
movhps 0F17 Mq,Vx
movlhps 0F16 Vx,Ux
movaps 0F28 Vx,Wx
movaps 0F29 Wx,Vx
cvtpi2ps 0F2A Vx,Qq
cvtsi2ss F3 0F2A Vx,Ed
movntps 0F2B Mx,Vx
cvttps2pi 0F2C Pq,Wq
cvttss2si F3 0F2C Gd,Wd
cvtps2pi 0F2D Pq,Wq
cvtss2si F3 0F2D Gd,Wd
ucomiss 0F2E Vx,Wd
comiss 0F2F Vx,Wd
movmskps 0F50 Gd,Ux
andps 0F54 Vx,Wx
andnps 0F55 Vx,Wx
orps 0F56 Vx,Wx
xorps 0F57 Vx,Wx
pshufw 0F70 Pq,Qq,Ib
cmpps 0FC2 Vx,Wx,Ib
cmpss F3 0FC2 Vx,Wd,Ib
pinsrw 0FC4 Pq,Rd,Ib
pinsrw 0FC4 Pq,Mw,Ib
pextrw 0FC5 Gd,Nq,Ib
shufps 0FC6 Vx,Wx,Ib
pmovmskb 0FD7 Gd,Nq
movntq 0FE7 Mq,Pq
maskmovq 0FF7 Pq,Nq
ldmxcsr 0FAE/2 Md
stmxcsr 0FAE/3 Md
fxsave 0FAE/0 M512
fxrstor 0FAE/1 M512
sfence 0FAEF8
prefetchnta 0F18/0 Mb
prefetcht0 0F18/1 Mb
"""
)
SSE2 = (
    "\n".join(_sse2())
    + """
movupd 66 0F10 Vx,Wx
movupd 66 0F11 Wx,Vx
movsd F2 0F10 Vx,Wq
movsd F2 0F11 Wq,Vx
movlpd 66 0F12 Vx,Mq
movlpd 66 0F13 Mq,Vx
unpcklpd 66 0F14 Vx,Wx
unpckhpd 66 0F15 Vx,Wx
movhpd 66 0F16 Vx,Mq
movhpd 66 0F17 Mq,Vx
movapd 66 0F28 Vx,Wx
movapd 66 0F29 Wx,Vx
cvtpi2pd 66 0F2A Vx,Qq
cvtsi2sd F2 0F2A Vx,Ed
movntpd 66 0F2B Mx,Vx
cvttpd2pi 66 0F2C Pq,Wx
cvttsd2si F2 0F2C Gd,Wq
cvtpd2pi 66 0F2D Pq,Wx
cvtsd2si F2 0F2D Gd,Wq
ucomisd 66 0F2E Vx,Wq
comisd 66 0F2F Vx,Wq
movmskpd 66 0F50 Gd,Ux
andpd 66 0F54 Vx,Wx
andnpd 66 0F55 Vx,Wx
orpd 66 0F56 Vx,Wx
xorpd 66 0F57 Vx,Wx
cvtps2pd 0F5A Vx,Wq
cvtpd2ps 66 0F5A Vx,Wx
cvtss2sd F3 0F5A Vx,Wd
cvtsd2ss F2 0F5A Vx,Wq
cvtdq2ps 0F5B Vx,Wx
cvtps2dq 66 0F5B Vx,Wx
cvttps2dq F3 0F5B Vx,Wx
punpcklqdq 66 0F6C Vx,Wx
punpckhqdq 66 0F6D Vx,Wx
movd 66 0F6E Vx,Ed
movd 66 0F7E Ed,Vx
movdqa 66 0F6F Vx,Wx
movdqa 66 0F7F Wx,Vx
movdqu F3 0F6F Vx,Wx
movdqu F3 0F7F Wx,Vx
movq F3 0F7E Vx,Wq
movq 66 0FD6 Wq,Vx
pshufd 66 0F70 Vx,Wx,Ib
pshufhw F3 0F70 Vx,Wx,Ib
pshuflw F2 0F70 Vx,Wx,Ib
cmppd 66 0FC2 Vx,Wx,Ib
cmpsd F2 0FC2 Vx,Wq,Ib
pinsrw 66 0FC4 Vx,Rd,Ib
pinsrw 66 0FC4 Vx,Mw,Ib
pextrw 66 0FC5 Gd,Ux,Ib
shufpd 66 0FC6 Vx,Wx,Ib
pmovmskb 66 0FD7 Gd,Ux
movq2dq F3 0FD6 Vx,Nq
movdq2q F2 0FD6 Pq,Ux
cvttpd2dq 66 0FE6 Vx,Wx
cvtdq2pd F3 0FE6 Vx,Wq
cvtpd2dq F2 0FE6 Vx,Wx
movntdq 66 0FE7 Mx,Vx
movnti 0FC3 Md,Gd
maskmovdqu 66 0FF7 Vx,Ux
lfence 0FAEE8
mfence 0FAEF0
"""
)
