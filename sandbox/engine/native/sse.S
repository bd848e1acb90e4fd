# SSE and SSE2 (and SSE3, SSE4.1) by the host's own: the third part of x87.S.
#
# A helper gets (env, destination, source), conversions to a register (env, source).  Nothing is written when an
# unmasked exception is raised: #XM, or #UD without CR4.OSXMMEXCPT (SDM 3A, 2.5).

        .set    XM, 19
        .set    UD, 6
        .set    TININESS, 0x10          # UE, and its mask shifted down
        .set    FTZ, 0x8000

        .macro  sse name, load, op, store
        helper  \name
        mov     r10d, [rdi+MXCSR]
        mov     r8d, r10d
        and     r8d, 0xffc0
        cmp     r8d, 0x1f80
        jne     .Lcontrolled\@
        \load
        \op
        stmxcsr [rsp-8]
        mov     r9d, [rsp-8]
        and     r9d, 0x3f
        or      r10d, r9d
        mov     [rdi+MXCSR], r10d
        \store
        ret
        .text   1
.Lcontrolled\@:
        or      r8d, 0x1f80
        mov     [rsp-16], r8d
        ldmxcsr [rsp-16]
        \load
        \op
        stmxcsr [rsp-8]
        mov     r9d, [rsp-8]
        not     r10d
        test    r10d, TININESS << 7     # unmasked: also raised by tiny results that are exact
        jz      .Lraised\@
        or      r8d, FTZ
        mov     [rsp-16], r8d
        ldmxcsr [rsp-16]
        \load
        \op
        stmxcsr [rsp-8]
        mov     r8d, [rsp-8]
        and     r8d, TININESS           # none: flushing changed nothing
        or      r9d, r8d
.Lraised\@:
        ldmxcsr [rip+clean]
        call    sse_flags
        \store
        ret
        .text   0
        .endm

        .text   1
# r9d: flags of a masked execution, r10d: the inverted MXCSR.  Comes back unless one of them is unmasked.
sse_flags:
        not     r10d
        and     r9d, 0x3f
        mov     r8d, r10d
        shr     r8d, 7
        not     r8d
        and     r8d, r9d
        jnz     1f
        or      r10d, r9d
        mov     [rdi+MXCSR], r10d
        ret
1:      test    r8d, 7
        jz      2f
        and     r9d, 7                  # found before anything is computed
2:      or      r10d, r9d
        mov     [rdi+MXCSR], r10d
        add     rsp, 8
        mov     rdx, [rsp]
        mov     esi, XM
        test    byte ptr [rdi+AT_CR4+1], 4
        jnz     3f
        mov     esi, UD
3:      jmp     [rip+e_raise_exception_ra]
        .text   0

        .macro  load_ss
        movss   xmm0, dword ptr [rsi]
        movss   xmm1, dword ptr [rdx]
        .endm
        .macro  load_sd
        movsd   xmm0, qword ptr [rsi]
        movsd   xmm1, qword ptr [rdx]
        .endm
        .macro  load_p
        movups  xmm0, [rsi]
        movups  xmm1, [rdx]
        .endm
        .macro  flags_of op
        \op     xmm0, xmm1
        pushfq
        pop     rax
        .endm
        .macro  store_flags
        and     eax, 0x45
        mov     [rdi+AT_CC_SRC], rax
        .endm
        .macro  load_chosen op, mask, load
        \load
        and     ecx, \mask
        lea     rax, [rip+.Lall_\op]
        lea     rax, [rax+rcx*8]
        .endm

        .macro  pair name, op, suffix:vararg      # d = d op s
        .ifc    \suffix, ss
        sse     \name, load_ss, "\op", "movss dword ptr [rsi], xmm0"
        .endif
        .ifc    \suffix, sd
        sse     \name, load_sd, "\op", "movsd qword ptr [rsi], xmm0"
        .endif
        .ifc    \suffix, p
        sse     \name, load_p, "\op", "movups [rsi], xmm0"
        .endif
        .endm

        .irp    op, add, sub, mul, div, min, max, sqrt
        pair    \op\()ss, "\op\()ss xmm0, xmm1", ss
        pair    \op\()sd, "\op\()sd xmm0, xmm1", sd
        pair    \op\()ps, "\op\()ps xmm0, xmm1", p
        pair    \op\()pd, "\op\()pd xmm0, xmm1", p
        .endr
        .irp    op, eq, lt, le, unord, neq, nlt, nle, ord
        pair    cmp\op\()ss, "cmp\op\()ss xmm0, xmm1", ss
        pair    cmp\op\()sd, "cmp\op\()sd xmm0, xmm1", sd
        pair    cmp\op\()ps, "cmp\op\()ps xmm0, xmm1", p
        pair    cmp\op\()pd, "cmp\op\()pd xmm0, xmm1", p
        .endr
        .irp    op, haddps, haddpd, hsubps, hsubpd, addsubps, addsubpd
        pair    \op, "\op xmm0, xmm1", p
        .endr
        .irp    op, rcp, rsqrt
        pair    \op\()ss, "\op\()ss xmm0, xmm1", ss
        pair    \op\()ps, "\op\()ps xmm0, xmm1", p
        .endr

        .irp    op, comiss, ucomiss
        sse     \op, load_ss, "flags_of \op", store_flags
        .endr
        .irp    op, comisd, ucomisd
        sse     \op, load_sd, "flags_of \op", store_flags
        .endr

        .irp    op, cvtss2si, cvttss2si
        sse     \op, "movss xmm1, dword ptr [rsi]", "\op eax, xmm1"
        .endr
        .irp    op, cvtsd2si, cvttsd2si
        sse     \op, "movsd xmm1, qword ptr [rsi]", "\op eax, xmm1"
        .endr
        sse     cvtsi2ss, "", "cvtsi2ss xmm0, edx", "movss dword ptr [rsi], xmm0"
        sse     cvtsi2sd, "", "cvtsi2sd xmm0, edx", "movsd qword ptr [rsi], xmm0"
        sse     cvtss2sd, "movss xmm1, dword ptr [rdx]", "cvtss2sd xmm0, xmm1", "movsd qword ptr [rsi], xmm0"
        sse     cvtsd2ss, "movsd xmm1, qword ptr [rdx]", "cvtsd2ss xmm0, xmm1", "movss dword ptr [rsi], xmm0"
        .irp    op, cvtps2pd, cvtdq2pd
        sse     \op, "movq xmm1, qword ptr [rdx]", "\op xmm0, xmm1", "movups [rsi], xmm0"
        .endr
        .irp    op, cvtpd2ps, cvtdq2ps, cvtps2dq, cvttps2dq, cvtpd2dq, cvttpd2dq
        sse     \op, "movups xmm1, [rdx]", "\op xmm0, xmm1", "movups [rsi], xmm0"
        .endr
        .irp    t, , t
        sse     cvt\t\()ps2pi, "movq xmm1, qword ptr [rdx]", "cvt\t\()ps2dq xmm0, xmm1", "movlps qword ptr [rsi], xmm0"
        sse     cvt\t\()pd2pi, "movups xmm1, [rdx]", "cvt\t\()pd2dq xmm0, xmm1", "movlps qword ptr [rsi], xmm0"
        .endr
        sse     cvtpi2ps, "movq xmm1, qword ptr [rdx]", "cvtdq2ps xmm0, xmm1", "movlps qword ptr [rsi], xmm0"
        sse     cvtpi2pd, "movq xmm1, qword ptr [rdx]", "cvtdq2pd xmm0, xmm1", "movups [rsi], xmm0"

# SSE4.1 with an immediate, which comes in ecx: one instruction for each
        .macro  immediates op, last
        .text   1
        .p2align 3
.Lall_\op:
        .set    imm, 0
        .rept   \last + 1
        .p2align 3
        \op     xmm0, xmm1, imm
        ret
        .set    imm, imm + 1
        .endr
        .text   0
        .endm
        .macro  chosen op, mask, load, store
        immediates \op, \mask
        sse     \op\()_xmm, "load_chosen \op, \mask, \load", "call rax", "\store"
        .endm
        chosen  roundss, 15, load_ss, "movss dword ptr [rsi], xmm0"
        chosen  roundsd, 15, load_sd, "movsd qword ptr [rsi], xmm0"
        chosen  roundps, 15, load_p, "movups [rsi], xmm0"
        chosen  roundpd, 15, load_p, "movups [rsi], xmm0"
        chosen  dpps, 255, load_p, "movups [rsi], xmm0"
        chosen  dppd, 255, load_p, "movups [rsi], xmm0"
