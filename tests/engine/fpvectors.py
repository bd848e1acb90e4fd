"""Instructions of x87, MMX and SSE with random operands, as one i386 program that this host's CPU runs too."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path

FOLDER = Path(__file__).parent / "native"
LINK = ("gcc", "-m32", "-O1", "-fomit-frame-pointer", "-fno-pic", "-no-pie", "-static", "-w", "-mno-sse")
_ARITHMETIC = ("add", "mul", "sub", "subr", "div", "divr")


def _x87() -> Iterator[str]:
    for op in _ARITHMETIC:
        yield from (f"f{op} st, st(1)", f"f{op} st(2), st", f"f{op}p st(1), st", f"f{op} st, st")
        yield from (f"f{op} dword ptr [esi]", f"f{op} qword ptr [esi]")
        yield from (f"fi{op} dword ptr [esi]", f"fi{op} word ptr [esi]")
    for op in ("com", "comp"):
        yield from (f"f{op} st(1)", f"f{op} dword ptr [esi]", f"f{op} qword ptr [esi]")
        yield from (f"fi{op} dword ptr [esi]", f"fi{op} word ptr [esi]")
    yield from ("fcompp", "fucom st(1)", "fucomp st(2)", "fucompp", "ftst", "fxam")
    yield from (f"f{op} st, st({at})" for op, at in product(("comi", "ucomi", "comip", "ucomip"), (0, 1)))
    yield from ("fsqrt", "f2xm1", "frndint", "fyl2x", "fyl2xp1", "fpatan", "fprem", "fprem1", "fscale", "fsin", "fcos")
    yield from ("fsincos", "fptan", "fxtract", "fabs", "fchs", "fincstp", "fdecstp", "fnop", "fwait")
    yield from ("fld1", "fldz", "fldpi", "fldl2t", "fldl2e", "fldlg2", "fldln2")
    yield from ("fld st(1)", "fld st(0)", "fld st(7)", "fst st(2)", "fstp st(1)", "fxch st(1)", "ffree st(1)")
    yield from ("stc; fcmovb st, st(1)", "clc; fcmovnb st, st(2)", "cmp eax, eax; fcmove st, st(1)")
    yield from ("clc; fcmovb st, st(1)", "stc; fcmovnb st, st(4)", "cmp eax, eax; fcmovne st, st(0)")
    yield from ("movd mm3, eax", "paddw mm1, mm2", "movq mm4, [esi]", "psllw mm0, 3", "punpcklbw mm1, [esi]")
    yield from (
        "movq mm5, mm2",
        ".byte 0x0f, 0x7f, 0xcb",
        "packsswb mm6, [esi]",
        "pshufw mm1, mm2, 27",
        "movq [edi], mm1",
    )
    yield from (f"fld {size} ptr [esi]" for size in ("dword", "qword", "tbyte"))
    yield from (f"fild {size} ptr [esi]" for size in ("word", "dword", "qword"))
    yield from ("fbld tbyte ptr [esi]", "fbstp tbyte ptr [edi]", "fstp tbyte ptr [edi]")
    yield from (f"{op} {size} ptr [edi]" for op, size in product(("fst", "fstp"), ("dword", "qword")))
    yield from (f"{op} {size} ptr [edi]" for op, size in product(("fist", "fistp", "fisttp"), ("word", "dword")))
    yield from ("fistp qword ptr [edi]", "fisttp qword ptr [edi]", "fst dword ptr [edi+4]; mov eax, 7")
    yield from (
        "xor ecx, ecx; fst dword ptr es:[edi+ecx*4+8]; mov eax, 7",
        "mov ecx, edi; fistp word ptr [ecx*1]; inc eax",
    )
    yield from ("fnstsw ax", "fnstcw [edi]", "fnstenv [edi]", "fnclex", "fninit", "fldcw [esi]")
    yield from ("fstsw ax", "fstcw [edi]", "emms", "movd eax, mm1", "fnstenv [edi]; fldenv [edi]; fwait")


def _sse() -> Iterator[str]:
    forms = ("ss", "sd", "ps", "pd")
    for op, form in product(("add", "sub", "mul", "div", "min", "max", "sqrt"), forms):
        yield f"{op}{form} xmm0, xmm1"
    yield from ("addps xmm0, [esi]", "mulsd xmm2, [esi]", "subss xmm3, [esi]", "divpd xmm0, [esi]")
    yield from (f"cmp{form} xmm0, xmm1, {kind}" for form, kind in product(forms, range(8)))
    yield from (f"{op}{form} xmm0, xmm1" for op, form in product(("comi", "ucomi"), ("ss", "sd")))
    yield from (f"{op} xmm0, xmm1" for op in ("cvtss2sd", "cvtsd2ss", "cvtps2pd", "cvtpd2ps", "cvtdq2ps", "cvtdq2pd"))
    yield from (f"cvt{t}{op}2dq xmm0, xmm1" for t, op in product(("", "t"), ("ps", "pd")))
    yield from (f"cvt{t}{op}2si eax, xmm1" for t, op in product(("", "t"), ("ss", "sd")))
    yield from (f"cvt{t}{op}2pi mm0, xmm1" for t, op in product(("", "t"), ("ps", "pd")))
    yield from ("cvtsi2ss xmm0, eax", "cvtsi2sd xmm0, eax", "cvtpi2ps xmm0, mm1", "cvtpi2pd xmm0, mm1")
    yield from (f"{op}{form} xmm0, xmm1" for op, form in product(("rcp", "rsqrt"), ("ss", "ps")))
    yield from ("movmskps eax, xmm1", "shufps xmm0, xmm1, 27", "unpckhpd xmm0, xmm1", "ldmxcsr [esi]", "stmxcsr [edi]")
    yield from (f"{op} xmm0, xmm1" for op in ("haddps", "haddpd", "hsubps", "hsubpd", "addsubps", "addsubpd"))


X87, SSE = tuple(_x87()), tuple(_sse())
X87_KIND, SSE_KIND = 0, 1


def amd() -> bool:
    """Whether this host's CPU keeps FIP and FDP as AMD's do."""
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def build(folder: Path) -> Path:
    """The program.  Raises CalledProcessError where it cannot be linked."""
    names, lines = "", [".intel_syntax noprefix", '.section .note.GNU-stack, "", @progbits', ".text"]
    for kind, codes in (("x87", X87), ("sse", SSE)):
        lines += [f"{kind}_{at}: {code}\n ret" for at, code in enumerate(codes)]
        lines += [
            ".data",
            f".globl {kind}_codes",
            f"{kind}_codes:",
            *(f".long {kind}_{at}" for at in range(len(codes))),
        ]
        lines += [".text"]
        names += f"enum {{ {kind.upper()}_COUNT = {len(codes)} }};\n"
        names += f"static const char *const {kind}_names[] = {{" + ",".join(f'"{code}"' for code in codes) + "};\n"
    (folder / "names.h").write_text(names)
    (folder / "codes.S").write_text("\n".join(lines) + "\n")
    out = folder / "fpvectors"
    sources = [FOLDER / "fpvectors.c", FOLDER / "fprun.S", folder / "codes.S"]
    subprocess.run([*LINK, "-I", folder, "-o", out, *sources], check=True, capture_output=True, timeout=60)
    return out
