# Host code in the place of the engine's x87 helpers: the host's own x87 unit computes (sandbox/engine/mends.py).
#
# A helper is called as helper(env, ...), the return address being in translated code.  Two ways lead to a result:
# fast, for full registers and masked exceptions, loads the operands, executes the instruction and takes the status
# word; `real` gives the host the guest's whole x87 state, executes the instruction and takes the state back, so that
# stack faults, unmasked responses and C1 are the hardware's.  The host's own flags are never more than the guest's:
# they are cleared when a run begins, behind callbacks, and where the guest clears its own.
# Rebuild: as --64 -o x.o x87.S; objcopy -O binary -j .text x.o mends.bin; tests/engine/test_mends.py compares.

        .intel_syntax noprefix
        .text

        .set    AT_CC_DST, 144          # in CPUX86State: what condition codes are computed from
        .set    AT_CC_SRC, 152
        .set    AT_CC_SRC2, 160
        .set    AT_CC_OP, 168
        .set    AT_CR0, 424
        .set    AT_CR4, 456
        .set    TOP, 604
        .set    SW, 608                 # without TOP
        .set    CW, 610
        .set    TAG, 612                # a byte a register: 1 is empty
        .set    REGS, 624                 # 16 bytes a register
        .set    FLAGS_IN_SRC, 758       # of an instruction that computes EFLAGS before it reaches memory (encodings.S)
        .set    FCS, 754                # of the last instruction that is no control instruction: the selector, the operand's,
        .set    FDS, 756
        .set    FIP, 760                # the offset, the operand's; the translator stores them behind each
        .set    FOP, 764                # and the opcode, with FOP_KNOWN, or 0: to be read at FIP
        .set    FDP, 768
        .set    FOP_KNOWN, 0x8000
        .set    FT0, 784                # the second operand, between two helpers of one instruction
        .set    SOURCE, 794             # what it is: 0 to 7 ST(i), or one of
        .set    FROM32, 8               #   raw bits of a single
        .set    FROM64, 9               #   raw bits of a double
        .set    EXACT, 10               #   a value from memory whose load raised nothing
        .set    BY_HARDWARE, 795        # not 0: raw, or an empty register
        .set    PUSHED, 796             # by fpush, for the next helper: 0 no, 1 yes, 2 no room
        .set    KEPT, 797               # an unmasked exception: the pops behind it shall not happen
        .set    NEXT_SW, 798            # of a store: the status word behind it
        .set    MXCSR, 816
        .set    CR0_NE, 0x20               # CR0
        .set    CR0_EM_TS, 0x0c
        .set    MASKED, 0x37f           # control word of FNINIT
        .set    ES, 0x80
        .set    C1, 0x200
        .set    IMAGE, 136              # of FNSAVE, 108 bytes
        .set    MF, 16
        .set    STORE, 1                # MMUAccessType

# What the loader reads: where the list begins.  An entry: offset (4 bytes), kind, name.
begin:  .quad   list - begin

        .include "list.S"

        .text   2
list:
        .text   0
        engines raise_exception_ra
        engines raise_exception_err_ra
        engines cpu_ldub_data_ra
        engines cpu_lduw_data_ra
        engines cpu_ldl_data_ra
        engines cpu_ldq_data_ra
        engines cpu_stw_data_ra
        engines cpu_stl_data_ra
        engines cpu_stq_data_ra
        engines helper_cc_compute_all
        engines cpu_restore_state
        engines cpu_memory_rw_debug
        engines cpu_loop_exit_noexc
        engines helper_fxrstor
        engines helper_fninit
        engines helper_enter_mmx
        engines helper_emms
        engines helper_xrstor
        engines helper_ldmxcsr
        engines probe_access
        engines helper_single_step
        .p2align 3
running: .quad  0
        listed  running, 3, running
masked: .long   MASKED
clean:  .long   0x1f80
        listed  clear, 2, clear
        listed  features, 2, features

        .p2align 4
# void clear(): no flags in the host's status word and MXCSR
clear:  fnclex
        ldmxcsr [rip+clean]
        ret

        .p2align 4
# unsigned features(): ECX of CPUID 1
features:
        push    rbx
        mov     eax, 1
        cpuid
        mov     eax, ecx
        pop     rbx
        ret

# -- pieces ------------------------------------------------------------------------------------------------------

# A waiting instruction: #MF when an unmasked exception is pending (SDM 1, 8.7).  First in a helper.
        .macro  waits
        cmp     byte ptr [rdi+SW], 0
        js      .Lpending\@
.Lgo\@:
        .text   1
.Lpending\@:
        call    pending
        jmp     .Lgo\@
        .text   0
        .endm

        .text   1
pending:
        test    byte ptr [rdi+AT_CR0], CR0_NE
        jnz     1f
        ret                             # without CR0.NE the PC's interrupt controller is asked: nobody is there
1:      add     rsp, 8
        call    note_opcode
        mov     rdx, [rsp]
        mov     esi, MF
        jmp     [rip+e_raise_exception_ra]
        .text   0

# #AC where `address` is no multiple of mask + 1 and the guest wants to know it (encodings.S).  First in a helper too.
        .macro  checks mask, address=esi
        test    \address, \mask
        jz      .Lwhole\@
        call    misaligned
.Lwhole\@:
        .endm

        .macro  top                     # rax its number, r8 ST(0)
        mov     eax, [rdi+TOP]
        mov     r8d, eax
        shl     r8d, 4
        lea     r8, [rdi+r8+REGS]
        .endm

# status word in ax: its exceptions and `take` into the guest's, in the place of what was there of `take`
        .macro  status take=C1
        movzx   ecx, word ptr [rdi+SW]
        and     eax, \take | 0x3f
        and     ecx, 0xffff & ~(\take)
        or      ecx, eax
        mov     [rdi+SW], cx
        .endm

# for a store: what will be the status word when it is done
        .macro  status_later
        movzx   ecx, word ptr [rdi+SW]
        and     eax, C1 | 0x3f
        and     ecx, 0xffff & ~C1
        or      ecx, eax
        mov     [rdi+NEXT_SW], cx
        .endm

# Execute `code`, under the guest's rounding and precision; to `slow` where an exception is unmasked.
        .macro  compute slow, code:vararg
        movzx   ecx, word ptr [rdi+CW]
        cmp     ecx, MASKED
        jne     .Lcontrolled\@
        \code
.Ldone\@:
        .text   1
.Lcontrolled\@:
        not     ecx
        test    ecx, 0x3f
        jnz     \slow
        fldcw   [rdi+CW]
        \code
        fldcw   [rip+masked]
        jmp     .Ldone\@
        .text   0
        .endm

# -- the whole instruction by the hardware -----------------------------------------------------------------------

        .text   1
# real: all of the state; real_status: the status word only.  r10 the instruction and RET, r11 its memory operand.
# EFLAGS behind it in r9.  rdi stays.
real:   sub     rsp, IMAGE
        call    execute
        test    edx, 7
        setnz   byte ptr [rdi+KEPT]
        mov     [rdi+TOP], ecx
        movzx   edx, word ptr [rsp+8]
        xor     r8d, r8d
1:      mov     eax, edx
        not     eax
        test    al, 3
        setz    byte ptr [rdi+r8+TAG]
        shr     edx, 2
        inc     r8d
        cmp     r8d, 8
        jne     1b
        lea     r8, [rsp+28]
        mov     edx, 8
2:      mov     r10d, ecx
        shl     r10d, 4
        mov     rax, [r8]
        mov     [rdi+r10+REGS], rax
        movzx   eax, word ptr [r8+8]
        mov     [rdi+r10+REGS+8], ax
        add     r8, 10
        inc     ecx
        and     ecx, 7
        dec     edx
        jnz     2b
        add     rsp, IMAGE
        ret

real_status:
        sub     rsp, IMAGE
        call    execute
        test    edx, 0x1f
        setnz   byte ptr [rdi+KEPT]
        add     rsp, IMAGE
        ret

# The image is behind the return address.  eax: status word, ecx: TOP, edx: unmasked exceptions.
execute:
        movzx   eax, word ptr [rdi+SW]
        movzx   edx, word ptr [rdi+CW]
        mov     ecx, edx
        not     ecx
        and     ecx, eax
        and     ecx, 0x3f
        jz      1f
        or      edx, 0x3f               # pending, and nobody listens: the host must not raise it
1:      mov     [rsp+8], edx
        mov     ecx, [rdi+TOP]
        mov     edx, ecx
        shl     edx, 11
        and     eax, 0x477f
        or      eax, edx
        mov     [rsp+8+4], eax
        xor     edx, edx
        mov     r8d, 7
2:      shl     edx, 2
        cmp     byte ptr [rdi+r8+TAG], 0
        je      3f
        or      edx, 3
3:      dec     r8d
        jns     2b
        mov     [rsp+8+8], edx
        xor     eax, eax
        mov     [rsp+8+12], rax
        mov     [rsp+8+20], rax
        lea     r8, [rsp+8+28]
        mov     edx, 8
4:      mov     r9d, ecx
        shl     r9d, 4
        mov     rax, [rdi+r9+REGS]
        mov     [r8], rax
        movzx   eax, word ptr [rdi+r9+REGS+8]
        mov     [r8+8], ax
        add     r8, 10
        inc     ecx
        and     ecx, 7
        dec     edx
        jnz     4b
        frstor  [rsp+8]
        call    r10
        pushfq
        pop     r9
        fnsave  [rsp+8]
        movzx   eax, word ptr [rsp+8+4]
        mov     ecx, eax
        shr     ecx, 11
        and     ecx, 7
        mov     edx, eax
        and     edx, 0xc7ff
        mov     [rdi+SW], dx
        movzx   edx, word ptr [rsp+8]
        not     edx
        and     edx, eax
        and     edx, 0x3f
        ret
        .text   0

# An instruction with ST(0) to ST(7), 4 bytes each
        .macro  eight op, behind, before
        .irp    i, 0, 1, 2, 3, 4, 5, 6, 7
        .p2align 2
        \before
        \op     st(\i)\behind
        ret
        .endr
        .p2align 2
        .endm

# -- what is computed: operands on the host's stack, the instruction, its status, the results ------------------------

        .macro  arithmetic_in op
        fld     tbyte ptr [rdi+FT0]
        fld     tbyte ptr [r8]
        f\op    st, st(1)
        fnstsw  ax
        fstp    st(1)
        fstp    tbyte ptr [r8]
        .endm
        .macro  arithmetic_to op
        fld     tbyte ptr [r9]
        fld     tbyte ptr [r8]
        f\op    st(1), st
        fnstsw  ax
        fstp    st(0)
        fstp    tbyte ptr [r9]
        .endm
        .macro  compared_by op
        fld     tbyte ptr [rdi+FT0]
        fld     tbyte ptr [r8]
        f\op\()pp
        fnstsw  ax
        .endm
        .macro  compared_flags op
        fld     tbyte ptr [rdi+FT0]
        fld     tbyte ptr [r8]
        f\op    st, st(1)
        fnstsw  ax
        pushfq
        pop     r9
        fstp    st(0)
        fstp    st(0)
        .endm
        .macro  one_operand op
        fld     tbyte ptr [r8]
        \op
        fnstsw  ax
        fstp    tbyte ptr [r8]
        .endm
        .macro  two_popping op
        fld     tbyte ptr [r9]
        fld     tbyte ptr [r8]
        \op
        fnstsw  ax
        fstp    tbyte ptr [r9]
        .endm
        .macro  two_keeping op
        fld     tbyte ptr [r9]
        fld     tbyte ptr [r8]
        \op
        fnstsw  ax
        fstp    tbyte ptr [r8]
        fstp    st(0)
        .endm
        .macro  two_results op
        fld     tbyte ptr [r8]
        \op
        fnstsw  ax
        .endm
        .macro  stored op, size
        fld     tbyte ptr [r8]
        \op     \size ptr [rsp-16]
        fnstsw  ax
        .endm

# -- the second operand ------------------------------------------------------------------------------------------

        helper  fmov_FT0_STN
        waits
        mov     eax, [rdi+TOP]
        add     eax, esi
        and     eax, 7
        movzx   ecx, byte ptr [rdi+rax+TAG]
        shl     eax, 4
        movups  xmm0, [rdi+rax+REGS]
        movups  [rdi+FT0], xmm0         # whole: a load behind two stores would wait
        mov     [rdi+SOURCE], sil
        mov     [rdi+BY_HARDWARE], cl
        ret

        helper  flds_FT0
        waits
        mov     eax, esi                # normal numbers and zeros raise nothing
        add     eax, eax
        jz      1f
        shr     eax, 24
        dec     eax
        cmp     eax, 0xfe
        jae     2f
1:      mov     [rsp-16], esi
        fld     dword ptr [rsp-16]
        fstp    tbyte ptr [rdi+FT0]
        mov     word ptr [rdi+SOURCE], EXACT
        ret
2:      mov     [rdi+FT0], esi
        mov     word ptr [rdi+SOURCE], FROM32 | 0x100
        ret

        helper  fldl_FT0
        waits
        mov     rax, rsi
        add     rax, rax
        jz      1f
        shr     rax, 53
        dec     eax
        cmp     eax, 0x7fe
        jae     2f
1:      mov     [rsp-16], rsi
        fld     qword ptr [rsp-16]
        fstp    tbyte ptr [rdi+FT0]
        mov     word ptr [rdi+SOURCE], EXACT
        ret
2:      mov     [rdi+FT0], rsi
        mov     word ptr [rdi+SOURCE], FROM64 | 0x100
        ret

        helper  fildl_FT0
        waits
        mov     [rsp-16], esi
        fild    dword ptr [rsp-16]
        fstp    tbyte ptr [rdi+FT0]
        mov     word ptr [rdi+SOURCE], EXACT
        ret

        helper  fldz_FT0
        waits
        fldz
        fstp    tbyte ptr [rdi+FT0]
        mov     word ptr [rdi+SOURCE], EXACT
        ret

# -- two operands ------------------------------------------------------------------------------------------------

        .text   1
# r10: where the instruction's forms begin.  The form for what FT0 is.
form:   movzx   eax, byte ptr [rdi+SOURCE]
        lea     r11, [rdi+FT0]
        cmp     eax, EXACT
        jne     1f
        fld     tbyte ptr [r11]
        fstp    qword ptr [r11]
        dec     eax
1:      lea     r10, [r10+rax*4]
        ret
        .text   0

        .macro  forms op
        .text   1
        .p2align 2
.Lforms_\op:
        eight   f\op
        f\op    dword ptr [r11]
        ret
        f\op    qword ptr [r11]
        ret
        .text   0
        .endm
        .macro  arithmetic op, back
        forms   \op
        helper  f\op\()_ST0_FT0
        top
        movzx   ecx, byte ptr [rdi+rax+TAG]
        or      cl, [rdi+BY_HARDWARE]
        jnz     .Lslow\@
        compute .Lslow\@, arithmetic_in \op
        status
        ret
        .text   1
.Lslow\@:
        lea     r10, [rip+.Lforms_\op]
        call    form
        jmp     real
        .p2align 2
.Lto\@:
        eight   f\op, ", st"
        .text   0
        helper  f\op\()_STN_ST0
        waits
        top
        lea     r9d, [rax+rsi]
        and     r9d, 7
        movzx   ecx, byte ptr [rdi+rax+TAG]
        or      cl, [rdi+r9+TAG]
        jnz     .Lslow_to\@
        shl     r9d, 4
        lea     r9, [rdi+r9+REGS]
        compute .Lslow_to\@, arithmetic_to \op
        status
        ret
        .text   1
.Lslow_to\@:
        lea     r10, [rip+.Lto\@]
        lea     r10, [r10+rsi*4]
        jmp     real
        .text   0
        .endm
        arithmetic add
        arithmetic mul
        arithmetic sub
        arithmetic subr
        arithmetic div
        arithmetic divr

        .macro  compares op
        helper  f\op\()_ST0_FT0
        top
        movzx   ecx, byte ptr [rdi+rax+TAG]
        or      cl, [rdi+BY_HARDWARE]
        jnz     .Lslow\@
        compute .Lslow\@, compared_by \op
        status  0x4700
        ret
        .text   1
.Lslow\@:
        lea     r10, [rip+.Lforms_\op]
        call    form
        jmp     real_status
        .text   0
        .endm
        forms   com
        compares com
        .text   1
        .p2align 2
.Lforms_ucom:
        eight   fucom
        .text   0
        compares ucom

# FCOMI sets ZF, PF and CF, clears OF, SF and AF (SDM 2A), and leaves C1
        .macro  compares_flags op
        .text   1
        .p2align 2
.Lforms_\op:
        eight   f\op
        .text   0
        helper  f\op\()_ST0_FT0
        top
        movzx   ecx, byte ptr [rdi+rax+TAG]
        or      cl, [rdi+BY_HARDWARE]
        jnz     .Lslow\@
        compute .Lslow\@, compared_flags \op
        and     r9d, 0x45
        mov     [rdi+AT_CC_SRC], r9
        status  0
        ret
        .text   1
.Lslow\@:
        lea     r10, [rip+.Lforms_\op]
        call    form
        jmp     with_flags
        .text   0
        .endm
        .text   1
# The form in r10 under the guest's EFLAGS: with an unmasked exception some processors leave them (SDM 2A, FCOMI).
with_flags:
        push    rdi
        mov     [rdi+FT0], r10
        mov     rax, rdi
        mov     rdi, [rax+AT_CC_DST]
        mov     rsi, [rax+AT_CC_SRC]
        mov     rdx, [rax+AT_CC_SRC2]
        mov     ecx, [rax+AT_CC_OP]
        call    [rip+e_helper_cc_compute_all]
        pop     rdi
        and     eax, 0x8d5
        or      eax, 2
        mov     r11d, eax
        lea     r10, [rip+1f]
        call    real_status
        and     r9d, 0x8d5
        mov     [rdi+AT_CC_SRC], r9
        ret
1:      push    r11
        popfq
        jmp     [rdi+FT0]
        .text   0
        compares_flags comi
        compares_flags ucomi

# -- one operand, or two in ST(0) and ST(1) ----------------------------------------------------------------------

        .macro  by_hardware op, how=real
        lea     r10, [rip+.Lop_\op]
        jmp     \how
.Lop_\op:
        \op
        ret
        .endm
        .macro  one op, take=C1
        helper  \op
        waits
        top
        cmp     byte ptr [rdi+rax+TAG], 0
        jne     .Lslow\@
        compute .Lslow\@, one_operand \op
        status  \take
        ret
        .text   1
.Lslow\@:
        by_hardware \op
        .text   0
        .endm
        one     fsqrt
        one     f2xm1
        one     frndint
        one     fsin, 0x600
        one     fcos, 0x600

        .macro  two                     # r9 ST(1), its number in r11; ecx not 0 when one is empty
        top
        lea     r11d, [rax+1]
        and     r11d, 7
        movzx   ecx, byte ptr [rdi+rax+TAG]
        or      cl, [rdi+r11+TAG]
        mov     r9d, r11d
        shl     r9d, 4
        lea     r9, [rdi+r9+REGS]
        .endm
        .macro  popping op              # the result in ST(1), then pop
        helper  \op
        waits
        two
        test    ecx, ecx
        jnz     .Lslow\@
        compute .Lslow\@, two_popping \op
        status
        mov     eax, [rdi+TOP]
        mov     byte ptr [rdi+rax+TAG], 1
        mov     [rdi+TOP], r11d
        ret
        .text   1
.Lslow\@:
        by_hardware \op
        .text   0
        .endm
        .macro  keeping op, take=C1     # the result in ST(0)
        helper  \op
        waits
        two
        test    ecx, ecx
        jnz     .Lslow\@
        compute .Lslow\@, two_keeping \op
        .if     \take == 0x4700         # C0 and C3 are bits of the quotient, and stay where there is none
        movzx   ecx, word ptr [r8+8]
        not     ecx
        test    ecx, 0x7fff
        jz      .Lnan\@
        .endif
        status  \take
        ret
        .text   1
.Lnan\@:
        status  0x600
        ret
.Lslow\@:
        by_hardware \op
        .text   0
        .endm
        popping fyl2x
        popping fyl2xp1
        popping fpatan
        keeping fprem, 0x4700
        keeping fprem1, 0x4700
        keeping fscale

# A second result is pushed, unless C2 says that the operand is out of range
        .macro  pushing op, take=C1
        helper  \op
        waits
        top
        lea     r11d, [rax-1]
        and     r11d, 7
        cmp     byte ptr [rdi+rax+TAG], 0
        jne     .Lslow\@
        cmp     byte ptr [rdi+r11+TAG], 0
        je      .Lslow\@
        mov     r9d, r11d
        shl     r9d, 4
        lea     r9, [rdi+r9+REGS]
        compute .Lslow\@, two_results \op
        .if     \take & 0x400
        test    ah, 4
        jnz     1f
        .endif
        fstp    tbyte ptr [r9]
        mov     [rdi+TOP], r11d
        mov     byte ptr [rdi+r11+TAG], 0
1:      fstp    tbyte ptr [r8]
        status  \take
        ret
        .text   1
.Lslow\@:
        by_hardware \op
        .text   0
        .endm
        pushing fxtract
        pushing fsincos, 0x600
        pushing fptan, 0x600

        helper  fxam_ST0
        waits
        top
        cmp     byte ptr [rdi+rax+TAG], 0
        jne     1f
        fld     tbyte ptr [r8]
        fxam
        fnstsw  ax
        fstp    st(0)
        and     eax, 0x4700
        status  0x4700
        ret
        .text   1
1:      by_hardware fxam, real_status
        .text   0

        .macro  sign name, op, how
        helper  \name
        waits
        top
        cmp     byte ptr [rdi+rax+TAG], 0
        jne     1f
        \how    byte ptr [r8+9], \op
        and     word ptr [rdi+SW], ~C1
        ret
        .endm
        sign    fabs_ST0, 0x7f, and
        .text   1
1:      by_hardware fabs
        .text   0
        sign    fchs_ST0, 0x80, xor
        .text   1
1:      by_hardware fchs
        .text   0

# -- registers and the stack -------------------------------------------------------------------------------------

        helper  fpush
        waits
        mov     eax, [rdi+TOP]
        dec     eax
        and     eax, 7
        cmp     byte ptr [rdi+rax+TAG], 0
        je      1f
        mov     [rdi+TOP], eax
        mov     byte ptr [rdi+rax+TAG], 0
        mov     byte ptr [rdi+PUSHED], 1
        and     word ptr [rdi+SW], ~C1
        ret
1:      mov     byte ptr [rdi+PUSHED], 2
        ret

        helper  fpop
        cmp     byte ptr [rdi+SW], 0
        js      1f
2:      mov     eax, [rdi+TOP]
        mov     byte ptr [rdi+rax+TAG], 1
        inc     eax
        and     eax, 7
        mov     [rdi+TOP], eax
        ret
1:      cmp     byte ptr [rdi+KEPT], 0
        je      2b
        ret

        helper  fdecstp
        waits
        mov     eax, [rdi+TOP]
        dec     eax
1:      and     eax, 7
        mov     [rdi+TOP], eax
        and     word ptr [rdi+SW], ~C1
        ret
        helper  fincstp
        waits
        mov     eax, [rdi+TOP]
        inc     eax
        jmp     1b

# FFREE; or what the translator calls before FCMOVcc of any condition, before a store through CS, before INS, OUTS and CLFLUSH,
# and behind FXRSTOR, FXSAVE and FNOP (encodings.S)
        .set    FCMOV_OF, 8             # + i
        .set    SUMMARY_OF, 16
        .set    REFUSED_OF, 17
        .set    NOTED_OF, 18
        .set    SAVED_OF, 19
        .set    KEPT_OF, 20             # no call: FIP and FCS stay
        .set    FLUSH_OF, 21
        .set    PORTS_OF, 32            # + bytes less one
        helper  ffree_STN
        cmp     esi, 8
        jae     for_translator
        waits
        add     esi, [rdi+TOP]
        and     esi, 7
        mov     byte ptr [rdi+rsi+TAG], 1
        and     word ptr [rdi+SW], ~C1
        ret

# The constants come behind fpush, under the rounding control; their inexactness is not flagged (SDM 1, 8.3.4)
        .macro  constant op
        helper  \op\()_ST0
        cmp     byte ptr [rdi+PUSHED], 2
        mov     byte ptr [rdi+PUSHED], 0
        je      .Lslow\@
        top
        movzx   ecx, word ptr [rdi+CW]
        cmp     ecx, MASKED
        jne     .Lcontrolled\@
        \op
        fstp    tbyte ptr [r8]
        ret
        .text   1
.Lcontrolled\@:
        or      ecx, 0x3f
        mov     [rsp-16], ecx
        fldcw   [rsp-16]
        \op
        fldcw   [rip+masked]
        fstp    tbyte ptr [r8]
        ret
.Lslow\@:
        by_hardware \op
        .text   0
        .endm
        .irp    op, fld1, fldz, fldpi, fldl2t, fldl2e, fldlg2, fldln2
        constant \op
        .endr

# FLD ST(i), behind fpush and counted from the new top; or FCMOVcc whose condition holds
        helper  fmov_ST0_STN
        cmp     byte ptr [rdi+PUSHED], 1
        jne     2f
        mov     byte ptr [rdi+PUSHED], 0
        test    esi, esi
        jz      3f
        top
        lea     ecx, [rax+rsi]
        and     ecx, 7
        cmp     byte ptr [rdi+rcx+TAG], 0
        jne     3f
1:      shl     ecx, 4
        movups  xmm0, [rdi+rcx+REGS]
        movups  [r8], xmm0
        ret
2:      ja      4f
        waits
        top
        lea     ecx, [rax+rsi]
        and     ecx, 7
        mov     dl, [rdi+rcx+TAG]
        or      dl, [rdi+rax+TAG]
        jnz     5f
        jmp     1b
        .text   1
3:      mov     eax, [rdi+TOP]          # the register is empty: as before the push
        mov     byte ptr [rdi+rax+TAG], 1
        inc     eax
        and     eax, 7
        mov     [rdi+TOP], eax
4:      mov     byte ptr [rdi+PUSHED], 0
        dec     esi
        and     esi, 7
        lea     r10, [rip+.Lfld]
        lea     r10, [r10+rsi*4]
        jmp     real
5:      lea     r10, [rip+.Lfcmov]
        lea     r10, [r10+rsi*4]
        jmp     real
        .p2align 2
.Lfld:  eight   fld
        .p2align 2
.Lfcmov: eight  "fcmovb st,", , stc
        .text   0

        .p2align 4
for_translator:
        cmp     esi, SUMMARY_OF
        je      1f
        ja      ports_or_refused
        test    byte ptr [rdi+AT_CR0], CR0_EM_TS
        jnz     2f                      # comes first
        waits
        top
        sub     esi, FCMOV_OF
        lea     ecx, [rax+rsi]
        and     ecx, 7
        mov     dl, [rdi+rcx+TAG]
        or      dl, [rdi+rax+TAG]
        jz      2f
        lea     r10, [rip+.Lfcmov]
        lea     r10, [r10+rsi*4]
        call    real
        jmp     leave_out
1:      movzx   eax, word ptr [rdi+SW]  # ES and B, and the reserved bits of the control word: 6 is 1 (SDM 1, 8.1.5)
        movzx   ecx, word ptr [rdi+CW]
        and     ecx, 0x1f7f
        or      ecx, 0x40
        mov     [rdi+CW], cx
        not     ecx
        and     ecx, eax
        and     eax, 0x7f7f
        test    ecx, 0x3f
        jz      3f
        or      eax, 0x8080
3:      mov     [rdi+SW], ax
2:      ret

        helper  fmov_STN_ST0
        waits
        top
        cmp     byte ptr [rdi+rax+TAG], 0
        jne     1f
        lea     ecx, [rax+rsi]
        and     ecx, 7
        mov     byte ptr [rdi+rcx+TAG], 0
        and     word ptr [rdi+SW], ~C1
        shl     ecx, 4
        movups  xmm0, [r8]
        movups  [rdi+rcx+REGS], xmm0
        ret
        .text   1
1:      lea     r10, [rip+.Lfst]
        lea     r10, [r10+rsi*4]
        jmp     real
        .p2align 2
.Lfst:  eight   fst
        .text   0

        helper  fxchg_ST0_STN
        waits
        top
        lea     ecx, [rax+rsi]
        and     ecx, 7
        mov     dl, [rdi+rcx+TAG]
        or      dl, [rdi+rax+TAG]
        jnz     1f
        and     word ptr [rdi+SW], ~C1
        shl     ecx, 4
        movups  xmm0, [r8]
        movups  xmm1, [rdi+rcx+REGS]
        movups  [r8], xmm1
        movups  [rdi+rcx+REGS], xmm0
        ret
        .text   1
1:      lea     r10, [rip+.Lfxch]
        lea     r10, [r10+rsi*4]
        jmp     real
        .p2align 2
.Lfxch: eight   fxch
        .text   0

# -- loads -------------------------------------------------------------------------------------------------------

        .macro  room                    # r9 the register to push to, r11 its number; to `slow` when it is full
        mov     r11d, [rdi+TOP]
        dec     r11d
        and     r11d, 7
        mov     r9d, r11d
        shl     r9d, 4
        lea     r9, [rdi+r9+REGS]
        cmp     byte ptr [rdi+r11+TAG], 0
        .endm
        .macro  pushed
        fstp    tbyte ptr [r9]
        mov     [rdi+TOP], r11d
        mov     byte ptr [rdi+r11+TAG], 0
        .endm
        .macro  loads name, register, size, op
        helper  \name
        waits
        room
        je      .Lslow\@
        .ifc    \op, fld                # an SNaN or a denormal raises something, others do not
        .ifc    \size, dword
        mov     eax, \register
        add     eax, eax
        jz      .Lsilent\@
        shr     eax, 24
        dec     eax
        cmp     eax, 0xfe
        .else
        mov     rax, \register
        add     rax, rax
        jz      .Lsilent\@
        shr     rax, 53
        dec     eax
        cmp     eax, 0x7fe
        .endif
        jae     .Lspecial\@
        .endif
.Lsilent\@:
        mov     [rsp-16], \register
        \op     \size ptr [rsp-16]
        pushed
        and     word ptr [rdi+SW], ~C1
        ret
        .text   1
        .ifc    \op, fld
.Lspecial\@:
        movzx   ecx, word ptr [rdi+CW]
        not     ecx
        test    ecx, 0x3f
        jnz     .Lslow\@
        mov     [rsp-16], \register
        \op     \size ptr [rsp-16]
        fnstsw  ax
        pushed
        status
        ret
        .endif
.Lslow\@:
        lea     r11, [rdi+FT0]
        mov     [r11], \register
        lea     r10, [rip+.Lop\@]
        jmp     real
.Lop\@: \op     \size ptr [r11]
        ret
        .text   0
        .endm
        loads   flds_ST0, esi, dword, fld
        loads   fldl_ST0, rsi, qword, fld
        loads   fildl_ST0, esi, dword, fild
        loads   fildll_ST0, rsi, qword, fild

        .text   1
# rsi: ten bytes of guest memory into FT0.  Called by a helper, first of all.
fetch:  push    rbx
        push    rbp
        mov     rbx, rdi
        mov     rbp, rsi
        mov     rdx, [rsp+24]
        call    [rip+e_cpu_ldq_data_ra]
        mov     [rbx+FT0], rax
        mov     rdi, rbx
        lea     rsi, [rbp+8]
        mov     rdx, [rsp+24]
        call    [rip+e_cpu_lduw_data_ra]
        mov     [rbx+FT0+8], ax
        mov     rdi, rbx
        pop     rbp
        pop     rbx
        ret
# rsi: FT0 to ten bytes of guest memory, and NEXT_SW to the status word.  Jumped to by a helper, last of all.
put:    push    rbx
        push    rbp
        sub     rsp, 8
        mov     rbx, rdi
        mov     rbp, rsi
        mov     edx, 10
        mov     rcx, [rsp+24]
        call    writable
        mov     rdi, rbx
        mov     rsi, rbp
        mov     rdx, [rdi+FT0]
        mov     rcx, [rsp+24]
        call    [rip+e_cpu_stq_data_ra]
        mov     rdi, rbx
        lea     rsi, [rbp+8]
        movzx   edx, word ptr [rbx+FT0+8]
        mov     rcx, [rsp+24]
        call    [rip+e_cpu_stw_data_ra]
        movzx   eax, word ptr [rbx+NEXT_SW]
        mov     [rbx+SW], ax
        add     rsp, 8
        pop     rbp
        pop     rbx
        ret
put_nothing:                            # the page is asked for all the same, as seen on an AMD host
        push    rbx
        push    r12
        push    r14
        mov     rbx, rdi
        mov     r12, [rsp+24]
        mov     r14d, STORE
        push    rsi
        sub     rsp, 8
        call    touch
        mov     eax, [rsp+8]
        lea     esi, [rax+9]
        and     esi, -4096
        xor     eax, esi
        test    eax, -4096
        jz      1f
        call    touch
1:      add     rsp, 16
        movzx   eax, word ptr [rbx+NEXT_SW]
        mov     [rbx+SW], ax
        pop     r14
        pop     r12
        pop     rbx
        ret
        .text   0

        helper  fldt_ST0
        waits
        checks  7
        call    fetch
        room
        je      1f
        and     word ptr [rdi+SW], ~C1
        fld     tbyte ptr [rdi+FT0]
        pushed
        ret
        .text   1
1:      lea     r10, [rip+2f]
        lea     r11, [rdi+FT0]
        jmp     real
2:      fld     tbyte ptr [r11]
        ret
        .text   0

        helper  fbld_ST0
        waits
        checks  7
        call    fetch
        lea     r10, [rip+1f]
        lea     r11, [rdi+FT0]
        jmp     real
1:      fbld    [r11]
        ret

# -- stores ------------------------------------------------------------------------------------------------------

# The value goes back to translated code, which stores it.  With an unmasked response nothing is stored.
        .macro  stores name, op, size, how, result
        helper  \name
        waits
        top
        cmp     byte ptr [rdi+rax+TAG], 0
        jne     .Lslow\@
        compute .Lslow\@, stored \op, \size
        status_later
        \how    \result, \size ptr [rsp-16]
        ret
        .text   1
.Lslow\@:
        lea     r11, [rdi+FT0]
        lea     r10, [rip+.Lop\@]
        push    [rdi+SW]
        call    real_status
        pop     rdx
        cmp     byte ptr [rdi+SW], 0
        js      .Lunmasked\@
.Lstored\@:
        call    later
        \how    \result, \size ptr [rdi+FT0]
        ret
.Lunmasked\@:
        cmp     byte ptr [rdi+KEPT], 0
        je      .Lstored\@
        call    later
        jmp     leave_store
.Lop\@: \op     \size ptr [r11]
        ret
        .text   0
        .endm
        .text   1
# dx: the status word before a store, which stays until it is done
later:  movzx   eax, word ptr [rdi+SW]
        mov     [rdi+NEXT_SW], ax
        mov     [rdi+SW], dx
        ret
        .text   0
        stores  fsts_ST0, fstp, dword, mov, eax
        stores  fstl_ST0, fstp, qword, mov, rax
        stores  fist_ST0, fistp, word, movsx, eax
        stores  fistl_ST0, fistp, dword, mov, eax
        stores  fistll_ST0, fistp, qword, mov, rax
        stores  fistt_ST0, fisttp, word, movsx, eax
        stores  fisttl_ST0, fisttp, dword, mov, eax
        stores  fisttll_ST0, fisttp, qword, mov, rax

        helper  fstt_ST0
        waits
        checks  7
        top
        cmp     byte ptr [rdi+rax+TAG], 0
        jne     1f
        movzx   eax, word ptr [rdi+SW]
        and     eax, ~C1
        mov     [rdi+NEXT_SW], ax
        mov     rax, [r8]
        movzx   ecx, word ptr [r8+8]
        mov     [rdi+FT0], rax
        mov     [rdi+FT0+8], cx
        jmp     put
        .text   1
1:      lea     r10, [rip+2f]
        jmp     store_ten
2:      fstp    tbyte ptr [r11]
        ret
store_ten:
        lea     r11, [rdi+FT0]
        push    rsi
        push    [rdi+SW]
        call    real_status
        pop     rdx
        pop     rsi
        cmp     byte ptr [rdi+SW], 0
        jns     1f
        cmp     byte ptr [rdi+KEPT], 0
        je      1f
        call    later
        jmp     put_nothing
1:      call    later
        jmp     put
        .text   0

        helper  fbst_ST0
        waits
        checks  7
        lea     r10, [rip+1f]
        jmp     store_ten
1:      fbstp   [r11]
        ret

        .include "x87env.S"
        .include "sse.S"
        .include "encodings.S"
        .text   3
        .long   0
