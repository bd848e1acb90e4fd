"""What keystone may be trusted with, found by asking GNU as: run it after a change of keystone or of the grammar.

Writes ``sandbox/image/snippet_shapes.txt``, the shapes in which every sample gave GNU as's bytes, and
``keystone_lines.txt``, one line of each shape with GNU as's bytes, whether keystone gets it right or not.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from elftools.elf.elffile import ELFFile

from sandbox.image.snippet import SHAPES, SnippetError, encode, parse

LINES = Path(__file__).with_name("keystone_lines.txt")
NUMBERS = """0 1 2 3 4 5 10 0x2a 127 128 0xc3 255 256 0x1234 0x7fff 0x8000 0x9abc 0xff7f 0xff80 0xfff0 65535
        0x10000 0x12345678
    0x7fffffff 0x80000000 0xdeadbeef 0xffffff7f 0xffffff80 0xfffffff0 0xffffffff -1 -4 -128 -129 -0x1234
        -0x8000 -0x8001
    -0x12345678 -0x80000000"""
_FLOATS, _KINDS = "add sub mul div min max sqrt", "ss sd ps pd"
CHOICES = {
    "r32": "eax ecx esp ebp edi", "r16": "ax cx dx bp si", "r8": "al cl dl ah bh", "i": NUMBERS,
    "few": "0 1 2 3 4 0x1b 0x7f 128 200 255", "seg": "cs ds es fs gs ss",
    "cr": "cr0 cr2 cr3 cr4", "dr": "dr0 dr3 dr6 dr7",
    "xmm": "xmm0 xmm7", "mm": "mm0 mm5", "st": "st(1) st(7)", "st0": "st st(0)",
    "cc": "o no b nb c nc ae nae e z ne nz be na nbe a s ns p pe np po l nge ge nl le ng g nle",
    "alu": "add or adc sbb and sub xor cmp test", "shift": "rol ror rcl rcr shl shr sal sar", "bit": "bt bts btr btc",
    "one": "inc dec neg not mul div imul idiv", "scan": "bsf bsr popcnt lzcnt tzcnt", "ext": "movzx movsx",
    "string": "movs stos lods scas cmps ins outs", "bwd": "b w d", "rep": "rep repe repne repz repnz",
    "fop": "fld fst fstp fadd fmul fsub fsubr fdiv fdivr fcom fcomp", "fopp": "faddp fmulp fsubp fsubrp fdivp fdivrp",
    "fint": "fiadd fimul fisub fisubr fidiv fidivr ficom ficomp fild fist fistp fisttp",
    "fcc": "fcmovb fcmove fcmovbe fcmovu fcmovnb fcmovne fcmovnbe fcmovnu fucomi fucomip fcomi fcomip",
    "fplain": """fld1 fldz fldpi fldl2e fldl2t fldlg2 fldln2 fchs fabs ftst fxam fsin fcos fsincos fptan fpatan
        fsqrt f2xm1
        fyl2x fyl2xp1 fprem fprem1 frndint fscale fxtract fincstp fdecstp fnop fninit finit fnclex fclex fcompp
        fucompp fwait
        fxch fucom fucomp fadd fmul faddp""",
    "fmem": "fldcw fnstcw fstcw fnstsw fstsw fldenv fnstenv fstenv fnsave fsave frstor fxsave fxrstor fbld fbstp",
    "mmx": """paddb paddw paddd paddsb paddsw paddusb paddusw psubb psubw psubd psubsb psubsw psubusb psubusw
        pmullw pmulhw
        pmaddwd pcmpeqb pcmpeqw pcmpeqd pcmpgtb pcmpgtw pcmpgtd pand pandn por pxor packsswb packssdw packuswb
        punpckhbw
        punpckhwd punpckhdq punpcklbw punpcklwd punpckldq psllw pslld psllq psrlw psrld psrlq psraw psrad paddq
        psubq pavgb
        pavgw pmaxsw pmaxub pminsw pminub pmulhuw pmuludq psadbw pshufb pabsb pabsw pabsd phaddw phaddd""",
    "mmxshift": "psllw pslld psllq psrlw psrld psrlq psraw psrad",
    "sse": " ".join(f"{op}{kind}" for op in _FLOATS.split() for kind in _KINDS.split())
    + """ andps andpd andnps andnpd orps orpd xorps xorpd unpcklps unpckhps unpcklpd unpckhpd rcpps rsqrtps
        comiss ucomiss
        comisd ucomisd cvtss2sd cvtsd2ss cvtps2pd cvtpd2ps cvtdq2ps cvtps2dq cvttps2dq cvtdq2pd cvttpd2dq
        movaps movups movapd
        movupd movdqa movdqu punpcklqdq punpckhqdq haddps haddpd addsubps addsubpd movshdup movsldup movddup
        pmulld pminsd
        pmaxsd ptest movhlps movlhps rcpss rsqrtss movss movsd movq lddqu""",
    "ssestore": """movaps movups movapd movupd movdqa movdqu movss movsd movq movd movlps movhps movlpd movhpd
        movntps movntdq""",
    "plain": """wrmsr rdmsr rdtsc rdpmc cpuid clts hlt iret iretd iretw invd wbinvd sysenter sysexit rsm ud2
        int3 int1 into nop
        pause leave ret retf lret cli sti cld std clc stc cmc lahf sahf pushf popf pushfd popfd pushfw popfw
        pusha popa pushad
        popad pushaw popaw cbw cwde cwd cdq aaa aas daa das aad aam xlat xlatb mfence lfence sfence emms
        monitor mwait xgetbv
        xsetbv rdtscp endbr32 wait syscall sysret movsl stosl salc swapgs cmpsd""",
    "m": "[ebx+8] [ecx+edx*4] [0x1000]",
}  # fmt: skip
CHOICES |= {
    f"m{bits}": "|".join(f"{size} ptr {form}" for form in CHOICES["m"].split())
    for bits, size in zip(
        (8, 16, 32, 48, 64, 80, 128), ["byte", "word", "dword", "fword", "qword", "tbyte", "xmmword"], strict=True
    )
}
TEMPLATES = """
{alu} {r32}, {r32};{alu} {r16}, {r16};{alu} {r8}, {r8};{alu} {r32}, {i};{alu} {r16}, {i};{alu} {r8}, {i}
{alu} {m8}, {i};{alu} {m16}, {i};{alu} {m32}, {i};{alu} {m}, {r32};{alu} {m}, {r16};{alu} {m}, {r8};{alu} {r32}, {m}
{alu} {r16}, {m};{alu} {r8}, {m};{alu} {r32}, {m32};{alu} {m32}, {r32};{alu} {m8}, {r8};{alu} {r8}, {m8}
{alu} {m16}, {r16}
lock {alu} {m32}, {r32};lock {alu} {m}, {r32};lock {alu} {m32}, {i};lock {alu} {m8}, {r8};lock inc {m32}
lock dec {m32}
{one} {r32};{one} {r16};{one} {r8};{one} {m8};{one} {m16};{one} {m32};lock not {m32};lock neg {m32};bswap {r32}
mov {r32}, {r32};mov {r16}, {r16};mov {r8}, {r8};mov {r32}, {i};mov {r16}, {i};mov {r8}, {i};mov {m8}, {i}
mov {m16}, {i}
mov {m32}, {i};mov {m}, {r32};mov {m}, {r16};mov {m}, {r8};mov {r32}, {m};mov {r16}, {m};mov {r8}, {m}
mov {r32}, {m32}
mov {m32}, {r32};mov {r16}, {m16};mov {m16}, {r16};mov {r8}, {m8};mov {m8}, {r8};mov {seg}, {r16};mov {seg}, {r32}
mov {r16}, {seg};mov {r32}, {seg};mov {seg}, {m16};mov {m16}, {seg};mov {m}, {seg};mov {seg}, {m};push {seg};pop {seg}
mov {cr}, {r32};mov {r32}, {cr};mov {dr}, {r32};mov {r32}, {dr};push {r32};pop {r32};push {r16};pop {r16};push {i}
pushw {i}
push {m32};pop {m32};push {m16};pop {m16};push dword ptr {i};xchg {r32}, {r32};xchg {r16}, {r16};xchg {r8}, {r8}
xchg {m}, {r32};xchg {r32}, {m};xchg {m8}, {r8};xchg {m}, {r8};xchg {r16}, {m};xchg {m32}, {r32};xchg {r32}, {m32}
lgdt {m};lidt {m};sgdt {m};sidt {m};lgdt {m48};invlpg {m};invlpg {m8};lldt {r16};ltr {r16};str {r16};sldt {r16}
verr {r16}
verw {r16};lmsw {r16};smsw {r16};lldt {m16};ltr {m16};str {m16};sldt {m16};verr {m16};verw {m16};lmsw {m16};smsw {m16}
ltr {m};str {m};str {r32};sldt {r32};smsw {r32};lmsw {m};smsw {m};lar {r32}, {r32};lar {r16}, {r16};lsl {r32}, {r32}
lsl {r16}, {r16};lar {r32}, {m};lsl {r32}, {m};arpl {r16}, {r16};{plain};{rep} {string}{bwd};{string}{bwd}
lock {string}{bwd}
rep ret;repz ret;lock nop;rep nop;int {few};int {i};ret {i};retf {few};retf 0x1234;enter {few}, {few};enter 0x1000, 0
aad {few};aam {few};jmp {r32};call {r32};jmp {m32};call {m32};jmp {m};call {m};jmp {m48};call {m48};ljmp {m};lcall {m}
jmp {i};call {i};j{cc} {i};loop {i};jecxz {i};jmp 8:0x1000;call 0x1b:0x8048000;ljmp 8, 0x1000;lcall 0x23, 4096
ljmp 8, -1
ljmp 0xffff, 0;jmp 0x10000:0;jmp -1:0;{shift} {r32}, {few};{shift} {r16}, {few};{shift} {r8}, {few};{shift} {r32}, cl
{shift} {r16}, cl;{shift} {r8}, cl;{shift} {m32}, {few};{shift} {m16}, {few};{shift} {m8}, {few};{shift} {m32}, cl
{shift} {m8}, cl;{shift} {r32};{shift} {m32};{shift} {m16}, cl;{bit} {r32}, {r32};{bit} {r16}, {r16}
{bit} {r32}, {few}
{bit} {r16}, {few};{bit} {m}, {r32};{bit} {m32}, {r32};{bit} {m32}, {few};{bit} {m16}, {few};lock {bit} {m32}, {few}
lock {bit} {m32}, {r32};lock {bit} {m}, {r32};{scan} {r32}, {r32};{scan} {r16}, {r16};{scan} {r32}, {m}
{scan} {r32}, {m32}
shld {r32}, {r32}, {few};shrd {r32}, {r32}, {few};shld {r32}, {r32}, cl;shrd {r32}, {r32}, cl;shld {m32}, {r32}, {few}
shrd {m}, {r32}, cl;cmov{cc} {r32}, {r32};cmov{cc} {r32}, {m};cmov{cc} {r32}, {m32};cmov{cc} {r16}, {r16};set{cc} {r8}
set{cc} {m8};set{cc} {m};{ext} {r32}, {r8};{ext} {r32}, {r16};{ext} {r16}, {r8};{ext} {r32}, {m8};{ext} {r32}, {m16}
{ext} {r16}, {m8};{ext} {r32}, {m};imul {r32}, {r32};imul {r16}, {r16};imul {r32}, {m};imul {r32}, {m32}
imul {r16}, {m16}
imul {r32}, {r32}, {i};imul {r16}, {r16}, {i};imul {r32}, {i};imul {r16}, {i};imul {r32}, {m}, {i}
imul {r32}, {m32}, {i}
in al, dx;in ax, dx;in eax, dx;out dx, al;out dx, ax;out dx, eax;in al, {i};in ax, {i};in eax, {i};out {i}, al
out {i}, ax
out {i}, eax;lea {r32}, {m};lea {r16}, {m};les {r32}, {m};lds {r32}, {m};lss {r32}, {m};lfs {r32}, {m};lgs {r32}, {m}
lss {r32}, {m48};bound {r32}, {m};nop {r32};nop {m32};nop {m16};xadd {r32}, {r32};xadd {m}, {r32};lock xadd {m}, {r32}
lock xadd {m32}, {r32};cmpxchg {r32}, {r32};cmpxchg {m}, {r32};cmpxchg {m8}, {r8};lock cmpxchg {m}, {r32}
lock cmpxchg {m32}, {r32};cmpxchg8b {m};cmpxchg8b {m64};lock cmpxchg8b {m};lock cmpxchg8b {m64};lock xchg {m}, {r32}
clflush {m};prefetchnta {m};prefetcht0 {m8};ldmxcsr {m};stmxcsr {m};ldmxcsr {m32};stmxcsr {m32};rdrand {r32}
ud1 {r32}, {r32}
stos dword ptr es:[edi], eax;stos byte ptr es:[edi], al;lods al, byte ptr [esi];rep stos dword ptr es:[edi], eax
movs dword ptr es:[edi], dword ptr [esi];scas al, byte ptr es:[edi];ins byte ptr es:[edi], dx;outs dx, byte ptr [esi]
{fop} {m32};{fop} {m64};{fop} {st};{fop} {st0}, {st};{fop} {st}, {st0};{fop} {st0};{fopp} {st}, {st0};{fopp} {st}
{fopp}
{fint} {m16};{fint} {m32};{fint} {m64};{fcc} {st0}, {st};{fplain};{fmem} {m};fldcw {m16};fnstcw {m16};fnstsw ax
fstsw ax
fld {m80};fstp {m80};fbld {m80};fbstp {m80};fxch {st};fucom {st};fucomp {st};ffree {st};ffree {st0};{mmx} {mm}, {mm}
{mmx} {mm}, {m};{mmx} {mm}, {m64};{mmx} {xmm}, {xmm};{mmx} {xmm}, {m};{mmx} {xmm}, {m128};{mmxshift} {mm}, {few}
{mmxshift} {xmm}, {few};pslldq {xmm}, {few};psrldq {xmm}, {few};{sse} {xmm}, {xmm};{sse} {xmm}, {m};{sse} {xmm}, {m32}
{sse} {xmm}, {m64};{sse} {xmm}, {m128};{ssestore} {m}, {xmm};{ssestore} {m128}, {xmm};{ssestore} {m64}, {xmm}
{ssestore} {m32}, {xmm};movd {xmm}, {r32};movd {r32}, {xmm};movd {mm}, {r32};movd {r32}, {mm};movd {mm}, {m}
movd {m}, {mm}
movd {xmm}, {m};movd {xmm}, {m32};movd {mm}, {m32};movq {mm}, {mm};movq {mm}, {m};movq {m}, {mm};movq {mm}, {m64}
movlps {xmm}, {m};movhps {xmm}, {m};movlpd {xmm}, {m64};movhpd {xmm}, {m64};movmskps {r32}, {xmm}
movmskpd {r32}, {xmm}
pmovmskb {r32}, {mm};pmovmskb {r32}, {xmm};movnti {m}, {r32};movntq {m}, {mm};maskmovq {mm}, {mm}
maskmovdqu {xmm}, {xmm}
cvtsi2ss {xmm}, {r32};cvtsi2sd {xmm}, {r32};cvtsi2sd {xmm}, {m32};cvtss2si {r32}, {xmm};cvttss2si {r32}, {xmm}
cvtsd2si {r32}, {xmm};cvttsd2si {r32}, {xmm};cvttsd2si {r32}, {m64};cvtpi2ps {xmm}, {mm};cvttps2pi {mm}, {xmm}
pshufw {mm}, {mm}, {few};pshufd {xmm}, {xmm}, {few};pshuflw {xmm}, {xmm}, {few};pshufhw {xmm}, {xmm}, {few}
pshufd {xmm}, {m}, {few};shufps {xmm}, {xmm}, {few};shufpd {xmm}, {xmm}, {few};pinsrw {xmm}, {r32}, {few}
pextrw {r32}, {xmm}, {few};pinsrw {mm}, {r32}, {few};pextrw {r32}, {mm}, {few};cmpps {xmm}, {xmm}, 2
cmpeqps {xmm}, {xmm}
cmpss {xmm}, {xmm}, 4;cmpsd {xmm}, {xmm}, 1;movdq2q {mm}, {xmm};movq2dq {xmm}, {mm};palignr {xmm}, {xmm}, {few}
fisttp {m32}
"""
STRINGS = CHOICES["string"].split()
BASES = ("eax", "ebx", "esp", "ebp", "esi", "")
INDICES = ("", "+ecx", "+edx*1", "+ebp*2", "+edi*4", "+eax*8")
DISPLACEMENTS = ["", *(f"{'' if n.startswith('-') else '+'}{n}" for n in NUMBERS.split())]
ADDRESSED = (
    "mov ecx, {};mov {}, eax;lea edx, {};add dword ptr {}, 5;fld qword ptr {};movups xmm1, {};movzx esi, word ptr {}"
)


def fill(template: str) -> Iterator[str]:
    """All lines of a template: each ``{name}`` replaced by each of its choices."""
    names = re.findall(r"{(\w+)}", template)
    pools = [CHOICES[name].split("|") if "|" in CHOICES[name] else CHOICES[name].split() for name in names]
    pattern = re.sub(r"{\w+}", "{}", template)
    for values in itertools.product(*pools):
        yield pattern.format(*values)


def lines() -> list[str]:
    """Every sample, once."""
    found = [line for row in TEMPLATES.split("\n") for each in row.split(";") if each for line in fill(each)]
    for base, index, displacement in itertools.product(BASES, INDICES, DISPLACEMENTS):
        inside = f"{base}{index}{displacement}".lstrip("+")
        for segment in ("", "fs:", "es:", "ss:", "ds:", "gs:", "cs:") if inside else ():
            forms = ADDRESSED.split(";")
            found += [form.format(f"{segment}[{inside}]") for form in (forms if not segment else forms[::3])]
    found += [form.format(address) for form in ADDRESSED.split(";") for address in ("gs:0x14", "fs:4096")]
    return list(dict.fromkeys(found))


def gnu_as(texts: Sequence[str], address: int = 0) -> list[bytes | None]:
    """What GNU as makes of each line alone at a linear address; None where it refuses."""
    alive = set(range(len(texts)))
    with tempfile.TemporaryDirectory() as folder:
        source, target, script, linked = (Path(folder) / name for name in ("a.s", "a.o", "a.ld", "a.elf"))
        while True:
            rows = [
                f'.section .s{number},"ax"\n{text if number in alive else ""}\n' for number, text in enumerate(texts)
            ]
            source.write_text(".intel_syntax noprefix\n" + "".join(rows))
            done = subprocess.run(
                ["as", "--32", "-o", str(target), str(source)], capture_output=True, text=True, errors="replace"
            )
            if not done.returncode:
                break
            refused = {(int(line) - 3) // 2 for line in re.findall(r"a\.s:(\d+): Error", done.stderr)}
            if not refused & alive:
                raise RuntimeError(done.stderr[:500])
            alive -= refused
        places = "".join(f".s{number} {address:#x} : {{ *(.s{number}) }}\n" for number in range(len(texts)))
        script.write_text(f"SECTIONS {{\n{places}}}\n")
        command = ["ld", "-m", "elf_i386", "--no-check-sections", "-T", str(script), "-o", str(linked), str(target)]
        subprocess.run(command, capture_output=True, check=True)
        found: list[bytes | None] = [None] * len(texts)
        with linked.open("rb") as stream:
            for section in ELFFile(stream).iter_sections():
                if re.fullmatch(r"\.s\d+", section.name) and int(section.name[2:]) in alive:
                    found[int(section.name[2:])] = section.data()
    return found


def main() -> int:
    samples = lines()
    expected = gnu_as(samples)
    good: dict[str, bool] = {}
    shown: dict[str, str] = {}
    for text, want in zip(samples, expected, strict=True):
        try:
            (statement,) = parse(text)
        except SnippetError:
            if want:
                shown.setdefault(text, f"{text}\t{want.hex()}")
            continue
        # A form of address is at fault only if the instruction is not: those of ADDRESSED are right in all forms.
        shape, *forms = statement.forms or (f"{statement.mnemonic} near or far",)
        # The addresses of string instructions are decoration that keystone does not check.
        decorated = statement.mnemonic in STRINGS and bool(forms)
        right = want == encode(statement, 0) and not decorated
        addressed = bool(forms) and text not in _plain_addresses()
        key = forms[-1] if addressed else shape
        good[key] = good.get(key, True) and right
        if want:
            shown.setdefault(key, f"{text}\t{want.hex()}")
            if not right:
                shown[key] = f"{text}\t{want.hex()}"
    SHAPES.write_text(
        "# Shapes in which keystone gives GNU as's bytes; written by tests/image/make_keystone_lines.py.\n"
        + "".join(f"{shape}\n" for shape, right in sorted(good.items()) if right and "near or far" not in shape)
    )
    LINES.write_text("\n".join(shown.values()) + "\n")
    print(f"{len(samples)} samples, {len(good)} shapes, {sum(good.values())} of them verified, {len(shown)} kept")
    return 0


_PLAIN: set[str] = set()


def _plain_addresses() -> set[str]:
    """The samples from TEMPLATES, whose addresses are the plain ones."""
    if not _PLAIN:
        _PLAIN.update(line for row in TEMPLATES.split("\n") for each in row.split(";") if each for line in fill(each))
    return _PLAIN


if __name__ == "__main__":
    sys.exit(main())
