# What the engine's translator takes for an instruction: the bytes that it reads are judged first, by a table
# (../encoding_table.py), and where the engine's idea of them is not the hardware's it reads others.
#
# - What must be #UD is read as prefixes and UD2, as long as what was judged: nothing is left for run time, and a store
#   into any of the bytes still drops the block.
# - What the engine refuses is read as the same instruction in a form that it knows.
# - Loads and stores of instructions whose operand must be aligned are translated with the engine's own check of
#   alignment, which its TLB's comparison does at no cost; so are all, in ring 3 with EFLAGS.AC.
#
# Guest memory is not touched, and only the translator reads otherwise.  In CPUX86State, CPUState, TranslationBlock:

        .set    AT_ESP, 32
        .set    AT_SS_BASE, 240
        .set    ENV_OF_CPU, 0x128
        .set    TB_FLAGS, 16
        .set    PC_NEXT, 16             # in DisasContextBase
        .set    IS_JUMP, 24
        .set    NO_RETURN, 2
        .set    ENGINE_OF_CPU, 0x81a8
        .set    TRANSLATOR, 0x300       # in uc_struct: TCGContext
        .set    ENV_TEMP, 0x98f0        # in TCGContext
        .set    LOAD_16, 11             # INDEX_op_ld16u_i32
        .set    LOAD_32, 13             # INDEX_op_ld_i32
        .set    STORE_16, 15            # INDEX_op_st16_i32
        .set    STORE_32, 16            # INDEX_op_st_i32
        .set    TRANSLATE, 32           # in TranslatorOps, of 56 bytes
        .set    EFLAGS_AC, 0x40000
        .set    AT_CR2, 440
        .set    AT_TR, 352              # selector, base (+8), limit (+16), flags (+20)
        .set    HF_SS32, 0x20
        .set    AT_DF, 172              # 1 or -1
        .set    CC_OP_EFLAGS, 1
        .set    BY_PROGRAM, 0x254100    # TF, NT, RF, AC, ID: what IRET loads in any ring; and IF by IOPL
        .set    CR0_AM, 0x40000
        .set    CR4_PCE, 0x100
        .set    ALIGN_16, 0x40          # MemOp
        .set    ALIGN, 0x70
        .set    ALIGN_MASK, 0x70
        .set    SIZE_4, 2
        .set    SIZE_MASK, 3

        .set    OPSIZE, 1               # prefixes in r13d: the last of REP and REPNE only
        .set    REP, 2
        .set    REPNE, 4
        .set    LOCKED, 8
        .set    ADSIZE, 16
        .set    IN_CODE, 32             # the last segment named is CS
        .set    MOST, 15                # bytes of an instruction

        .set    ROW_LOCK, 0             # a row of the table, 16 bytes
        .set    ROW_KIND, 1
        .set    ROW_ALIGNED, 2
        .set    ROW_WIDE, 3
        .set    ROW_MEMORY, 4
        .set    ROW_REGISTER, 8
        .set    ROW_HALF, 12
        .set    ROW_MMX, 13             # the prefixes with which ModR/M.reg is an MMX register that gets the result
        .set    ROW_MMX_RM, 14          # or ModR/M.rm
        .set    ROW_STORES, 15          # the /digits that store to a memory operand
        .set    SINGLE_AT, 4            # in ROW_HALF, the prefixes with which one load of eight bytes is all
        .set    KIND_PLAIN, 1
        .set    KIND_TEST, 2
        .set    KIND_COMPARE, 3
        .set    KIND_VEX, 4
        .set    KIND_HINT, 5
        .set    KIND_ICEBP, 6
        .set    KIND_FCMOV, 7
        .set    KIND_RESTORE, 8
        .set    KIND_PORTS, 9
        .set    KIND_FROM_MMX, 10
        .set    KIND_X87, 11
        .set    KIND_SET, 12            # SETcc
        .set    KIND_ROTATE, 13         # RCL and RCR, among others
        .set    VEX_PP, 0xf8d011
        .set    COMPUTED, 1             # FLAGS_IN_SRC: CC_SRC has EFLAGS, whatever CC_OP an exception would restore
        .set    ROTATED, 2              #   and they are those of the result

        .macro  slot name               # what the engine's calls of a function of its own lead to
        .p2align 4
s_\name:
        listed  s_\name, 4, \name
        .endm

        engines translator_loop
        engines cpu_ldub_code
        engines tcg_gen_qemu_ld_i32
        engines tcg_gen_qemu_ld_i64
        engines tcg_gen_qemu_st_i32
        engines tcg_gen_qemu_st_i64
        engines tcg_const_i32
        engines tcg_gen_callN
        engines tcg_gen_op3
        engines tcg_temp_free_internal
        engines tcg_temp_new_internal
        engines cpu_lduw_mmuidx_ra
        engines helper_raise_interrupt
        engines raise_exception_err
        listed  unaligned, 2, unaligned
        listed  seen_code, 2, seen_code
        listed  gen_call, 2, gen_call
        listed  raise_err, 2, raise_err
        listed  data, 5, data

# translator_loop(operations, context, cpu, block, most)
        slot    translator_loop
        xor     eax, eax
        mov     [rip+judged], rax
        mov     [rip+aligned], rax
        mov     [rip+behind], rax
        mov     [rip+every], eax
        mov     r10, [rip+running]
        cmp     [r10], rax
        je      .Lnot_ours              # somebody else's engine in this process is as it came
        mov     r11, [rdx+ENV_OF_CPU]
        cmp     dword ptr [r11+AT_EIP+4], 0
        jne     .Lwraps
        mov     r9d, [rcx+TB_FLAGS]
        mov     r10d, r9d
        and     r10d, 3
        cmp     r10d, 3
        jne     1f
        test    r9d, EFLAGS_AC
        jz      1f
        mov     eax, ALIGN
1:      mov     [rip+every], eax
        lea     r10, [rip+operations]
        .irp    at, 0, 8, 16, 24, 40, 48
        mov     rax, [rdi+\at]
        mov     [r10+\at], rax
        .endr
        mov     rax, [rdi+TRANSLATE]
        mov     [rip+translate_one], rax
        lea     rax, [rip+judge_one]
        mov     [r10+TRANSLATE], rax
        mov     rdi, r10
.Lnot_ours:
        jmp     [rip+e_translator_loop]
        .text   1
.Lwraps:                                # Jcc, LOOP and JECXZ add to EIP without end: EIP has 32 bits
        mov     eax, [r11+AT_EIP]
        mov     [r11+AT_EIP], rax
        mov     rdi, rdx
        sub     rsp, 8
        call    [rip+e_cpu_loop_exit_noexc]
        .text   0

        .p2align 4
# translate_insn(context, cpu): judge, let the engine translate, and add what it leaves out
judge_one:
        push    rdi
        push    rsi
        push    rbx
        mov     rbx, rdi
        mov     rax, [rsi+ENGINE_OF_CPU]
        mov     rax, [rax+TRANSLATOR]
        mov     [rip+translator], rax
        mov     rdi, [rsi+ENV_OF_CPU]
        mov     rsi, [rbx+PC_NEXT]
        call    judge
        cmp     byte ptr [rip+flagged], 0
        je      5f
        xor     esi, esi
        call    emit_flagged
5:
        mov     rdi, rbx
        mov     rsi, [rsp+8]
        call    [rip+translate_one]
        cmp     dword ptr [rbx+IS_JUMP], NO_RETURN
        jae     2f
        movzx   esi, byte ptr [rip+behind]
        test    esi, esi
        jz      1f
        call    emit_call
1:      movzx   esi, byte ptr [rip+into_mmx]
        test    esi, esi
        jz      3f
        call    emit_exponent
3:      cmp     qword ptr [rip+kept], 0
        je      4f
        call    emit_back
4:      cmp     byte ptr [rip+enters], 0
        je      2f
        call    emit_enter
2:      xor     eax, eax
        mov     [rip+judged], rax
        mov     [rip+aligned], rax      # and what is behind it
        mov     [rip+behind], rax
        mov     [rip+kept], rax
        pop     rbx
        pop     rsi
        pop     rdi
        ret

# A call of ffree_STN with esi: a number that no register has says what is meant (x87.S).
emit_call:
        push    rbx
        sub     rsp, 16
        mov     rbx, [rip+translator]
        mov     rdi, rbx
        call    [rip+e_tcg_const_i32]
        mov     rcx, [rbx+ENV_TEMP]
        add     rcx, rbx
        add     rax, rbx
        mov     [rsp], rcx
        mov     [rsp+8], rax
        mov     rdi, rbx
        lea     rsi, [rip+h_ffree_STN]
        xor     edx, edx
        mov     ecx, 2
        mov     r8, rsp
        call    [rip+e_tcg_gen_callN]
        mov     rdi, rbx
        mov     rsi, [rsp+8]
        call    [rip+e_tcg_temp_free_internal]
        add     rsp, 16
        pop     rbx
        ret

# Bits 64 to 79 of x87 register esi - 1 become ones, as behind each result of MMX (SDM 1, 9.2.1).
emit_exponent:
        push    rbx
        push    rbp
        push    r12
        mov     ebp, esi
        shl     ebp, 4
        mov     rbx, [rip+translator]
        mov     rdi, rbx
        mov     esi, 0xffff
        call    [rip+e_tcg_const_i32]
        lea     r12, [rax+rbx]
        mov     rdi, rbx
        mov     esi, STORE_16
        mov     rdx, r12
        mov     rcx, [rbx+ENV_TEMP]
        add     rcx, rbx
        lea     r8d, [rbp+REGS-16+8]
        call    [rip+e_tcg_gen_op3]
        mov     rdi, rbx
        mov     rsi, r12
        call    [rip+e_tcg_temp_free_internal]
        pop     r12
        pop     rbp
        pop     rbx
        ret

# FLAGS_IN_SRC becomes esi.
emit_flagged:
        push    rbx
        push    r12
        sub     rsp, 8
        mov     rbx, [rip+translator]
        mov     rdi, rbx
        call    [rip+e_tcg_const_i32]
        lea     r12, [rax+rbx]
        mov     rdi, rbx
        mov     esi, STORE_16
        mov     rdx, r12
        mov     rcx, [rbx+ENV_TEMP]
        add     rcx, rbx
        mov     r8d, FLAGS_IN_SRC
        call    [rip+e_tcg_gen_op3]
        mov     rdi, rbx
        mov     rsi, r12
        call    [rip+e_tcg_temp_free_internal]
        add     rsp, 8
        pop     r12
        pop     rbx
        ret

# TOP becomes 0 and no register empty, behind an instruction of MMX: one that faults has changed nothing.
emit_enter:
        push    rbx
        push    rbp
        push    r12
        mov     rbx, [rip+translator]
        mov     rdi, rbx
        xor     esi, esi
        call    [rip+e_tcg_const_i32]
        lea     r12, [rax+rbx]
        .irp    at, TOP, TAG, TAG+4
        mov     rdi, rbx
        mov     esi, STORE_32
        mov     rdx, r12
        mov     rcx, [rbx+ENV_TEMP]
        add     rcx, rbx
        mov     r8d, \at
        call    [rip+e_tcg_gen_op3]
        .endr
        mov     rdi, rbx
        mov     rsi, r12
        call    [rip+e_tcg_temp_free_internal]
        pop     r12
        pop     rbp
        pop     rbx
        ret

# FIP, FOP and FCS, before an instruction that the translator takes for one that they are of, and behind it.
        .macro  keep at, load, store, offset
        .ifnb   \load
        mov     rdi, rbx
        xor     esi, esi                # TCG_TYPE_I32
        xor     edx, edx
        call    [rip+e_tcg_temp_new_internal]
        mov     [rip+kept+8*\at], rax
        mov     esi, \load
        .else
        mov     esi, \store
        .endif
        mov     rdi, rbx
        mov     rdx, [rip+kept+8*\at]
        mov     rcx, rbp
        mov     r8d, \offset
        call    [rip+e_tcg_gen_op3]
        .ifb    \load
        mov     rdi, rbx
        mov     rsi, [rip+kept+8*\at]
        call    [rip+e_tcg_temp_free_internal]
        .endif
        .endm
emit_keep:
        push    rbx
        push    rbp
        sub     rsp, 8
        mov     rbx, [rip+translator]
        mov     rbp, [rbx+ENV_TEMP]
        add     rbp, rbx
        keep    0, LOAD_32, , FIP
        keep    1, LOAD_32, , FOP
        keep    2, LOAD_16, , FCS
        jmp     1f
emit_back:
        push    rbx
        push    rbp
        sub     rsp, 8
        mov     rbx, [rip+translator]
        mov     rbp, [rbx+ENV_TEMP]
        add     rbp, rbx
        keep    0, , STORE_32, FIP
        keep    1, , STORE_32, FOP
        keep    2, , STORE_16, FCS
        mov     qword ptr [rip+kept], 0
1:      add     rsp, 8
        pop     rbp
        pop     rbx
        ret

# The status word that a store of the x87 has left in NEXT_SW becomes the guest's, behind the store.
emit_status:
        push    rbx
        push    rbp
        push    r12
        mov     rbx, [rip+translator]
        mov     rbp, [rbx+ENV_TEMP]
        add     rbp, rbx
        mov     rdi, rbx
        xor     esi, esi                # TCG_TYPE_I32
        xor     edx, edx
        call    [rip+e_tcg_temp_new_internal]
        mov     r12, rax
        mov     rdi, rbx
        mov     esi, LOAD_16
        mov     rdx, r12
        mov     rcx, rbp
        mov     r8d, NEXT_SW
        call    [rip+e_tcg_gen_op3]
        mov     rdi, rbx
        mov     esi, STORE_16
        mov     rdx, r12
        mov     rcx, rbp
        mov     r8d, SW
        call    [rip+e_tcg_gen_op3]
        mov     rdi, rbx
        mov     rsi, r12
        call    [rip+e_tcg_temp_free_internal]
        pop     r12
        pop     rbp
        pop     rbx
        ret

# tcg_gen_callN(context, function, result, arguments, theirs): what comes before the operand's access is moved behind it
        slot    tcg_gen_callN
gen_call:
        mov     [rip+translator], rdi
        mov     rax, [rip+running]
        cmp     qword ptr [rax], 0
        je      3f                      # somebody else's engine: nothing is moved behind its instruction
        cmp     rsi, [rip+e_helper_cc_compute_all]
        je      5f
        lea     rax, [rip+h_enter_mmx]
        cmp     rsi, rax
        je      2f
        lea     rax, [rip+h_cvtps2pi]   # to and from MMX: before what they compute, which may be #XM
        cmp     rsi, rax
        jb      3f
        lea     rax, [rip+h_cvtpi2pd]
        cmp     rsi, rax
        jbe     4f
3:      lea     rax, [rip+h_fsts_ST0]
        cmp     rsi, rax
        jb      1f
        lea     rax, [rip+h_fisttll_ST0]
        cmp     rsi, rax
        ja      1f
        mov     byte ptr [rip+storing], 1
1:      jmp     [rip+e_tcg_gen_callN]
4:      cmp     byte ptr [rip+enters], 0
        je      1b
        mov     byte ptr [rip+enters], 0
        push    rdi
        push    rsi
        push    rdx
        push    rcx
        push    r8
        call    emit_enter
        pop     r8
        pop     rcx
        pop     rdx
        pop     rsi
        pop     rdi
        jmp     1b
5:      cmp     byte ptr [rip+flagged], 0
        je      1b
        sub     rsp, 8
        call    [rip+e_tcg_gen_callN]
        add     rsp, 8
        mov     esi, COMPUTED
        jmp     emit_flagged
2:      cmp     byte ptr [rip+converts], 0
        jne     3f
        mov     byte ptr [rip+enters], 1
        lea     rsi, [rip+h_fwait]
        jmp     1b
3:      ret

        .p2align 4
# uint32_t seen_code(env, address): as the translator reads it, for another that looks at the instruction (system.S)
seen_code:
        mov     rax, rsi
        sub     rax, [rip+first]
        cmp     rax, [rip+judged]
        jae     1f
        lea     rcx, [rip+bytes]
        movzx   eax, byte ptr [rcx+rax]
        ret
1:      jmp     [rip+e_cpu_ldub_code]

# uint32_t cpu_ldub_code(env, address)
        slot    cpu_ldub_code
        mov     rax, rsi
        sub     rax, [rip+first]
        jz      3f
2:      cmp     rax, [rip+judged]
        jae     1f
        lea     rcx, [rip+bytes]
        movzx   eax, byte ptr [rcx+rax]
        ret
1:      jmp     [rip+e_cpu_ldub_code]
3:      cmp     byte ptr [rip+before], 0
        je      2b
        push    rdi                     # hooks have been called: what comes before the instruction comes here
        push    rsi
        sub     rsp, 8
        movzx   esi, byte ptr [rip+before]
        mov     byte ptr [rip+before], 0
        cmp     esi, KEPT_OF
        je      4f
        call    emit_call
        jmp     5f
4:      call    emit_keep
5:      add     rsp, 8
        pop     rsi
        pop     rdi
        xor     eax, eax
        jmp     2b

# tcg_gen_qemu_ld_i64(context, value, address, index, operation): the first half of an aligned operand carries its check
        .macro  access name, kind
        slot    \name
        .ifc    \kind, load_8
        cmp     byte ptr [rip+single], 0
        jne     4f
3:
        .endif
        or      r8d, [rip+every]
        cmp     byte ptr [rip+half], 0
        je      2f
        and     r8d, ~SIZE_MASK
        or      r8d, SIZE_4
        mov     byte ptr [rip+half], 0
2:      mov     eax, [rip+aligned]
        test    eax, eax
        jz      1f
        and     r8d, ~ALIGN_MASK
        or      r8d, eax
        mov     dword ptr [rip+aligned], 0
1:
        .ifc    \kind, store
        cmp     byte ptr [rip+storing], 0
        je      5f
        mov     byte ptr [rip+storing], 0
        sub     rsp, 8
        call    [rip+e_\name]
        add     rsp, 8
        jmp     emit_status
5:
        .endif
        jmp     [rip+e_\name]
        .ifc    \kind, load_8
4:      inc     byte ptr [rip+single]   # the first; what would be the second is left out
        cmp     byte ptr [rip+single], 2
        je      3b
        ret
        .endif
        .endm
        access  tcg_gen_qemu_ld_i64, load_8
        access  tcg_gen_qemu_st_i64, store
        access  tcg_gen_qemu_ld_i32
        access  tcg_gen_qemu_st_i32, store

        .p2align 4
# void judge(env, address): `judged` bytes from `first` on are to be read as `bytes`; `aligned` is for the operand
judge:
        push    rbx
        push    rbp
        push    r12
        push    r13
        push    r14
        push    r15
        sub     rsp, 8
        mov     rbx, rdi
        mov     r12, rsi
        xor     ebp, ebp                # bytes read
        xor     r13d, r13d              # prefixes
        mov     [rip+judged], rbp
        mov     [rip+aligned], rbp      # and what is behind it
        mov     [rip+behind], rbp
        mov     [rip+first], rsi
.Lprefix:
        call    code_byte
        lea     r14, [rip+table]
        mov     ecx, eax
        and     ecx, 0xe7
        cmp     ecx, 0x26
        je      .Lsegment
        lea     ecx, [rax-0x64]
        cmp     ecx, 3
        ja      1f
        cmp     ecx, 2
        jb      .Lsegment
        mov     edx, OPSIZE
        mov     ecx, ADSIZE
        cmp     al, 0x66
        cmovne  edx, ecx
        or      r13d, edx
        jmp     .Lprefix
1:      lea     ecx, [rax-0xf0]
        cmp     ecx, 3
        ja      3f
        cmp     ecx, 1
        je      3f
        jb      2f
        and     r13d, ~(REP | REPNE)
        mov     edx, REP
        mov     ecx, REPNE
        cmp     al, 0xf3
        cmovne  edx, ecx
        or      r13d, edx
        jmp     .Lprefix
2:      or      r13d, LOCKED
        jmp     .Lprefix
3:      cmp     al, 0x0f
        jne     4f
        add     r14, 256 * 16
        call    code_byte
        cmp     al, 0x38
        je      5f
        cmp     al, 0x3a
        jne     4f
        add     r14, 256 * 16
5:      add     r14, 256 * 16
        call    code_byte
4:      shl     eax, 4
        add     r14, rax
        movzx   r15d, byte ptr [r14+ROW_KIND]
        test    r13d, LOCKED
        jz      1f
        cmp     byte ptr [r14+ROW_LOCK], 0
        je      .Lundefined
1:      test    r13d, IN_CODE
        jnz     .Lin_code
.Lnot_stored:
        test    r15d, r15d
        jz      .Lout
        cmp     r15d, KIND_ICEBP
        je      .Licebp
        cmp     r15d, KIND_PORTS
        je      .Lports
        call    code_byte                   # ModR/M
        mov     edx, eax
        shr     edx, 3
        and     edx, 7
        xor     ecx, ecx                # which of four prefixes the encoding has
        test    r13d, REP | REPNE
        jnz     2f
        test    r13d, OPSIZE
        setnz   cl
        jmp     3f
2:      test    r13d, REPNE
        setnz   cl
        add     ecx, 2
3:      cmp     eax, 0xc0
        jae     5f
        movzx   r8d, byte ptr [r14+rcx+ROW_MEMORY]
        bt      r8d, edx
        jc      .Lundefined
        test    r13d, LOCKED
        jz      4f
        movzx   r8d, byte ptr [r14+ROW_LOCK]
        bt      r8d, edx
        jnc     .Lundefined
4:      movzx   r8d, byte ptr [r14+ROW_HALF]
        bt      r8d, ecx
        setc    byte ptr [rip+half]
        shr     r8d, SINGLE_AT
        bt      r8d, ecx
        setc    byte ptr [rip+single]
        xor     r8d, r8d
        cmp     dword ptr [rip+every], r8d
        cmovne  r8w, [r14+ROW_WIDE]
        bt      r8d, ecx
        setc    byte ptr [rip+wide]
        or      r8b, [r14+ROW_ALIGNED]
        bt      r8d, ecx
        jnc     6f
        mov     dword ptr [rip+aligned], ALIGN_16
        jmp     6f
5:      test    r13d, LOCKED
        jnz     .Lundefined
        movzx   r8d, byte ptr [r14+rcx+ROW_REGISTER]
        bt      r8d, edx
        jc      .Lundefined
        movzx   r8d, byte ptr [r14+ROW_MMX_RM]
        bt      r8d, ecx
        jnc     6f
        mov     r8d, eax
        and     r8d, 7
        inc     r8d
        mov     [rip+into_mmx], r8b
6:      movzx   r8d, byte ptr [r14+ROW_MMX]
        bt      r8d, ecx
        jnc     7f
        lea     r8d, [rdx+1]
        mov     [rip+into_mmx], r8b
7:      lea     r8, [rip+bytes]
        cmp     r15d, KIND_TEST
        je      .Ltest
        cmp     r15d, KIND_COMPARE
        je      .Lcompare
        cmp     r15d, KIND_VEX
        je      .Lvex
        cmp     r15d, KIND_FCMOV
        je      .Lfcmov_
        cmp     r15d, KIND_X87
        je      .Lcontrol
        cmp     r15d, KIND_RESTORE
        je      .Lrestore
        cmp     r15d, KIND_FROM_MMX
        je      .Lfrom_mmx
        cmp     r15d, KIND_SET
        je      .Lset
        cmp     r15d, KIND_ROTATE
        je      .Lrotate
        cmp     r15d, KIND_HINT
        jne     .Lout
        mov     byte ptr [r8+rbp-2], 0x1f
        jmp     .Lread
.Lneg:  test    r13d, LOCKED            # with LOCK the engine leaves the flags of another value: REPE says nothing here
        jz      .Lout
        lea     ecx, [rbp-2]
1:      dec     ecx
        js      .Lread
        cmp     byte ptr [r8+rcx], 0xf0
        jne     1b
        mov     byte ptr [r8+rcx], 0xf3
        jmp     1b
.Ltest: cmp     edx, 3
        je      .Lneg
        cmp     edx, 1                  # /1 is /0
        jne     .Lout
        and     byte ptr [r8+rbp-1], 0xc7
        jmp     .Lread
.Lcontrol:                              # of D9 and DF: FNOP is no control instruction, FNSTSW AX is one
        cmp     eax, 0xd0
        je      3f
        cmp     eax, 0xe0
        jne     .Lout
        cmp     byte ptr [r8+rbp-2], 0xdf
        je      4f
        jmp     .Lout
3:      cmp     byte ptr [r8+rbp-2], 0xd9
        jne     .Lout
        mov     byte ptr [rip+behind], NOTED_OF
        jmp     .Lout
4:      mov     byte ptr [rip+before], KEPT_OF
        jmp     .Lout
.Lfcmov_:                               # whatever the condition, an empty register is seen: no helper sees it
        cmp     eax, 0xe0               # DB: FNENI, FNDISI, FNSETPM, of earlier coprocessors
        je      4b
        cmp     eax, 0xe1
        je      4b
        cmp     eax, 0xe4
        je      4b
        cmp     eax, 0xe0
        jae     .Lout
        cmp     eax, 0xc0
        jb      .Lout
        and     eax, 7
        add     eax, FCMOV_OF
        mov     [rip+before], al
        jmp     .Lout
.Lrestore:
        cmp     eax, 0xc0
        jae     .Lout
        cmp     edx, 7                  # CLFLUSH
        jne     4f
        test    ecx, ecx
        jnz     .Lout
        mov     byte ptr [rip+before], FLUSH_OF
        jmp     .Lout
4:      mov     ecx, SAVED_OF
        cmp     edx, 1                  # FXRSTOR, behind FXSAVE
        ja      .Lout
        jb      3f
        mov     ecx, SUMMARY_OF
3:      mov     [rip+behind], cl
        jmp     .Lout
.Lfrom_mmx:                             # CVTPI2PS and CVTPI2PD have to do with MMX when they have its register
        cmp     eax, 0xc0
        jae     .Lout
        cmp     ecx, 2
        setb    byte ptr [rip+converts]
        jmp     .Lout
.Lrotate:
        and     edx, 6
        cmp     edx, 2
        jne     .Lout
.Lset:  cmp     eax, 0xc0               # with a memory operand
        setb    byte ptr [rip+flagged]
        jmp     .Lout
.Lsegment:
        and     r13d, ~IN_CODE
        cmp     al, 0x2e
        jne     .Lprefix
        or      r13d, IN_CODE
        jmp     .Lprefix

# A store through CS is #GP(0) in protected mode (SDM 3A, 5.4.1)
.Lin_code:
        movzx   edx, byte ptr [r14+ROW_STORES]
        test    edx, edx
        jz      .Lnot_stored
        mov     ecx, [rbx+AT_FLAGS]
        test    ecx, HF_PE
        jz      .Lnot_stored
        test    dword ptr [rbx+AT_EFLAGS], EFLAGS_VM
        jnz     .Lnot_stored
        lea     rax, [rip+table]
        mov     rcx, r14
        sub     rcx, rax
        shr     ecx, 4
        mov     eax, ecx
        and     eax, ~1
        cmp     eax, 0xa2               # MOV with an offset
        je      3f
        call    code_byte
        dec     ebp
        movzx   edx, byte ptr [r14+ROW_STORES]
        cmp     eax, 0xc0
        jb      1f
        cmp     ecx, 0x1f7              # 0F F7, MASKMOVQ
        jne     .Lnot_stored
        jmp     3f
1:      shr     eax, 3
        and     eax, 7
        bt      edx, eax
        jnc     .Lnot_stored
        cmp     ecx, 0x17e              # 0F 7E: MOVQ with F3 is a load
        jne     3f
        test    r13d, REP
        jnz     .Lnot_stored
3:      mov     byte ptr [rip+before], REFUSED_OF
        jmp     .Lnot_stored

# INS and OUTS: whether the port is theirs comes before the memory
.Lports:
        lea     r8, [rip+bytes]
        movzx   eax, byte ptr [r8+rbp-1]
        xor     edx, edx
        and     eax, 1
        jz      1f
        mov     ecx, [rbx+AT_FLAGS]
        shr     ecx, 4                  # CS32
        xor     ecx, r13d               # and 66
        and     ecx, 1
        lea     edx, [rcx*2+1]          # bytes, less one
1:      or      edx, PORTS_OF
        mov     [rip+before], dl
        jmp     .Lout
.Licebp:
        lea     r8, [rip+bytes]         # INT3, of which raise_interrupt makes #DB
        mov     byte ptr [r8+rbp-1], 0xcc
        jmp     .Lread

# C4 and C5 with what would be a register: VEX.  Without AVX only BEXTR and its kind are there, all of them C4.
.Lvex:  cmp     eax, 0xc0
        jb      .Lout
        cmp     byte ptr [r8+rbp-2], 0xc5
        je      .Lundefined
        test    r13d, OPSIZE | REP | REPNE
        jnz     .Lundefined
        and     eax, 0x1f
        mov     r15d, eax               # map
        call    code_byte
        mov     r14d, eax               # W, vvvv, L, pp
        call    code_byte
        xor     ecx, ecx                # of each pp, whether it is there
        cmp     r15d, 3
        jne     1f
        cmp     al, 0xf0
        sete    cl
        shl     ecx, 3
        jmp     2f
1:      cmp     r15d, 2
        jne     .Lundefined
        sub     eax, 0xf2
        cmp     eax, 5
        ja      .Lundefined
        mov     edx, VEX_PP             # a nibble each for F2 to F7
        lea     ecx, [rax*4]
        shr     edx, cl
        mov     ecx, edx
2:      test    r14d, 4                 # L
        jnz     .Lundefined
        and     r14d, 3
        bt      ecx, r14d
        jnc     .Lundefined
        jmp     .Lout

# CMPPS and its kind use three bits of their immediate.  It is behind the operand.
.Lcompare:
        xor     r15d, r15d              # bytes of displacement
        cmp     eax, 0xc0
        jae     5f
        mov     r14d, eax
        shr     r14d, 6                 # mod
        and     eax, 7
        mov     edx, [rbx+AT_FLAGS]
        test    r13d, ADSIZE
        jz      1f
        xor     edx, CS32
1:      test    edx, CS32
        jz      3f
        cmp     eax, 4
        jne     2f
        call    code_byte                   # SIB
        and     eax, 7
2:      mov     edx, 4
        cmp     eax, 5
        jmp     4f
3:      mov     edx, 2
        cmp     eax, 6
4:      jne     6f
        test    r14d, r14d
        cmovz   r15d, edx
6:      cmp     r14d, 2
        cmove   r15d, edx
        cmp     r14d, 1
        cmove   r15d, r14d
5:      inc     r15d
7:      call    code_byte
        dec     r15d
        jnz     7b
        lea     r8, [rip+bytes]
        cmp     byte ptr [r8+rbp-1], 7
        jbe     .Lout
        and     byte ptr [r8+rbp-1], 7
        jmp     .Lread

.Lundefined:
        mov     byte ptr [rip+before], 0
        lea     r8, [rip+bytes]
        lea     ecx, [rbp-2]
        mov     word ptr [r8+rcx], 0x0b0f
        test    ecx, ecx
        jz      .Lread
1:      mov     byte ptr [r8+rcx-1], 0x3e
        dec     ecx
        jnz     1b
.Lread: mov     [rip+judged], rbp
.Lout:  add     rsp, 8
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     rbp
        pop     rbx
        ret

# The next byte of code, in eax: as the translator reads it, with the faults that it would meet.  One that is too long
# for an instruction is the translator's matter.
code_byte:  cmp     ebp, MOST
        jae     1f
        push    rcx
        mov     rdi, rbx
        lea     rsi, [r12+rbp]
        call    [rip+e_cpu_ldub_code]
        pop     rcx
        movzx   eax, al
        lea     rsi, [rip+bytes]
        mov     [rsi+rbp], al
        inc     ebp
        ret
1:      add     rsp, 8
        jmp     .Lout

        .p2align 4
# void do_unaligned_access(cpu, address, access, index, return address): what was translated with a check has failed it.
# #GP(0) for operands that must be aligned (SDM 2A, 2.4), #AC(0) for others in ring 3 with CR0.AM and EFLAGS.AC
# (3A, 6.15); else the access goes on.
unaligned:
        push    rbx
        push    r12
        push    r13
        mov     rbx, [rdi+ENV_OF_CPU]
        mov     r12, r8
        mov     r13d, 13
        test    dword ptr [rbx+AT_EFLAGS], EFLAGS_AC
        jz      2f
        mov     eax, [rbx+AT_FLAGS]
        and     eax, 3
        cmp     eax, 3
        jne     2f
        mov     rsi, r8
        mov     edx, 1
        call    [rip+e_cpu_restore_state]
        mov     rdi, rbx
        mov     rsi, [rbx+AT_EIP]
        add     rsi, [rbx+AT_CS_BASE]
        mov     dword ptr [rip+every], ALIGN
        call    judge
        xor     ecx, ecx
        mov     eax, [rip+aligned]
        mov     [rip+judged], rcx
        movzx   edx, byte ptr [rip+wide]
        mov     [rip+aligned], rcx
        test    edx, edx
        jnz     1f
        test    eax, eax
        jnz     2f
1:      mov     r13d, 17
        test    dword ptr [rbx+AT_CR0], CR0_AM
        jz      3f
2:      mov     rdi, rbx
        mov     esi, r13d
        xor     edx, edx
        mov     rcx, r12
        call    raise_err               # a pending #MF comes first
3:      pop     r13
        pop     r12
        pop     rbx
        ret

# Of a helper whose operand is misaligned: comes back where that is allowed.
        .text   1
misaligned:
        test    dword ptr [rdi+AT_EFLAGS], EFLAGS_AC
        jz      1f
        test    dword ptr [rdi+AT_CR0], CR0_AM
        jz      1f
        mov     eax, [rdi+AT_FLAGS]
        and     eax, 3
        cmp     eax, 3
        jne     1f
        add     rsp, 8
        mov     rcx, [rsp]
        mov     esi, 17
        xor     edx, edx
        sub     rsp, 8
        call    [rip+e_raise_exception_err_ra]
1:      ret
# rbx: env.  ZF is clear where operands of this code must be aligned.  Changes eax.
asks_alignment:
        test    dword ptr [rbx+AT_CR0], CR0_AM
        jz      1b
        mov     eax, [rbx+AT_FLAGS]
        not     eax
        test    eax, 3
        jnz     2f
        test    dword ptr [rbx+AT_EFLAGS], EFLAGS_AC
        ret
2:      xor     eax, eax
        ret
# rbx: env, at an instruction whose operand is not aligned
unaligned_here:
        mov     rdi, rbx
        mov     esi, 17
        xor     edx, edx
        xor     ecx, ecx
        call    [rip+e_raise_exception_err_ra]
        .text   0

# Before CLFLUSH, which the engine leaves out: it faults as a load of a byte (SDM 2A, CLFLUSH)
        .text   1
flushed:
        push    rbx
        push    r12
        push    r14
        mov     rbx, rdi
        mov     r12, [rsp+24]
        lea     rdi, [rbx-ENV_IN_CPU]
        mov     rsi, r12
        xor     edx, edx
        call    [rip+e_cpu_restore_state]
        call    operand
        jc      1f
        mov     rdi, rbx
        mov     esi, eax
        mov     rdx, r12
        call    [rip+e_cpu_ldub_data_ra]
1:      mov     rdi, rbx
        pop     r14
        pop     r12
        pop     rbx
        ret
        .text   0

# Before the instruction: INS and OUTS ask for their port (SDM 1, 19.5), with REP and a count of 0
# too, as seen on an AMD host; a store through CS is refused.
        .text   1
ports_or_refused:
        cmp     esi, NOTED_OF
        je      noted
        cmp     esi, SAVED_OF
        je      saved
        cmp     esi, FLUSH_OF
        je      flushed
        cmp     esi, REFUSED_OF
        je      refused
        test    dword ptr [rdi+AT_FLAGS], HF_PE
        jz      9f
        test    dword ptr [rdi+AT_EFLAGS], EFLAGS_VM
        jnz     3f
        mov     eax, [rdi+AT_FLAGS]
        and     eax, 3
        mov     ecx, [rdi+AT_EFLAGS]
        shr     ecx, 12
        and     ecx, 3
        cmp     eax, ecx
        jbe     9f
# The bitmap of the TSS has a clear bit for each byte (SDM 1, 19.5.2)
3:      mov     r10, [rsp]
        push    rbx
        push    r12
        push    r13
        mov     rbx, rdi
        mov     r12d, esi
        mov     r13, r10
        cmp     dword ptr [rbx+AT_TR+16], 103
        jb      8f
        test    byte ptr [rbx+AT_TR+21], 8
        jz      8f                      # of 16 bits: no bitmap
        mov     esi, 0x66
        call    of_tss
        movzx   ecx, word ptr [rbx+16]  # DX
        mov     edx, ecx
        shr     ecx, 3
        lea     esi, [rax+rcx]
        lea     eax, [rsi+1]
        cmp     eax, [rbx+AT_TR+16]
        ja      8f
        call    of_tss
        movzx   ecx, byte ptr [rbx+16]
        and     ecx, 7
        shr     eax, cl
        and     r12d, 3
        add     r12d, r12d              # bytes less one: 0, 1, 3
        mov     edx, 0x0f030301
        mov     ecx, r12d
        shl     ecx, 2
        shr     edx, cl
        and     eax, edx
        test    al, 0x0f
        jnz     8f
        pop     r13
        pop     r12
        pop     rbx
9:      ret
8:      mov     rdi, rbx
        pop     r13
        pop     r12
        pop     rbx
refused:
        mov     rcx, [rsp]
        mov     esi, GP
        xor     edx, edx
        jmp     raise_err
# esi: an offset in the TSS, whose word comes in eax
of_tss: add     esi, [rbx+AT_TR+8]
        mov     rdi, rbx
        mov     edx, 2                  # the engine's TLB of the kernel's accesses
        mov     rcx, r13
        sub     rsp, 8
        call    [rip+e_cpu_lduw_mmuidx_ra]
        add     rsp, 8
        movzx   eax, ax
        ret
        .text   0

# raise_exception_err_ra(env, vector, error, return address): a pending x87 exception comes before what the operand of
# a waiting instruction would raise
        slot    raise_exception_err_ra
raise_err:
        test    rcx, rcx
        jz      .Lfrom_code
.Lof_an_operand:
        cmp     byte ptr [rdi+SW], 0
        js      .Lpending
        cmp     esi, 14
        je      6f
.Lraise:
        jmp     [rip+e_raise_exception_err_ra]
        .text   1
.Lfrom_code:                            # and there EIP may have been added to without end (translator_loop)
        cmp     esi, 14
        jne     .Lof_an_operand
        mov     eax, [rdi+AT_EIP]
        mov     [rdi+AT_EIP], rax
        mov     eax, [rdi+AT_CR2]
        mov     [rdi+AT_CR2], rax
        jmp     .Lof_an_operand
# A read that faults where a page begins: it may be the second half of what is read to be stored, whose first half may
# not be stored.  That fault comes first, as seen on an AMD host.
6:      test    rcx, rcx                # a fetch comes from nowhere
        jz      .Lraise
        test    edx, 0x12               # a write, a fetch
        jnz     .Lraise
        test    dword ptr [rdi+AT_CR2], 0xfff
        jnz     .Lraise
        push    rbx
        push    r12
        push    r14
        push    rcx
        push    rdx
        push    rsi
        sub     rsp, 8
        mov     rbx, rdi
        mov     r12, rcx
        lea     rdi, [rbx-ENV_IN_CPU]
        mov     rsi, rcx
        mov     edx, 1
        call    [rip+e_cpu_restore_state]
        call    operand
        jc      7f
        movzx   edx, byte ptr [r14+ROW_STORES]
        bt      edx, ecx
        jnc     7f
        mov     ecx, [rbx+AT_CR2]
        dec     ecx
        sub     ecx, eax
        cmp     ecx, 16
        jae     7f
        mov     esi, eax
        mov     r14d, STORE
        call    touch
7:      mov     rdi, rbx
        add     rsp, 8
        pop     rsi
        pop     rdx
        pop     rcx
        pop     r14
        pop     r12
        pop     rbx

        jmp     .Lraise

# SETcc, RCL and RCR have EFLAGS in CC_SRC when they reach memory, where a fault finds what CC_OP was at their
# beginning; and RCL and RCR those of the result.  The flags of a fault are those of before (SDM 3A, 6.5: faults restart).
# rbx: env, as restored in the midst of an instruction.  ZF: it was one of these, and its flags are those of before it.
settle: cmp     word ptr [rbx+FLAGS_IN_SRC], 0
        je      1f
        call    flagged_one
        jne     2f
        mov     dword ptr [rbx+AT_CC_OP], CC_OP_EFLAGS
        cmp     word ptr [rbx+FLAGS_IN_SRC], ROTATED
        jne     3f
        mov     rax, [rip+unrotated]
        mov     [rbx+AT_CC_SRC], rax
3:      cmp     eax, eax
2:      ret
1:      test    rbx, rbx                # and ZF is clear
        ret

# rbx: env, at an instruction.  ZF: it is SETcc (SDM 2B: 0F 90 to 9F), RCL or RCR (C0, C1, D0 to D3, /2 and /3) of memory.
flagged_one:
        push    r12
        push    r13
        push    rbp
        mov     r12, [rbx+AT_EIP]
        mov     ebp, [rbx+AT_CS_BASE]
1:      call    next_byte
        mov     ecx, eax
        and     ecx, 0xe7               # segments
        cmp     ecx, 0x26
        je      1b
        lea     ecx, [rax-0x64]         # FS, GS, sizes
        cmp     ecx, 3
        jbe     1b
        cmp     al, 0xf0
        je      1b
        mov     ecx, eax
        and     ecx, 0xfe
        cmp     ecx, 0xf2
        je      1b
        cmp     al, 0x0f
        je      4f
        cmp     ecx, 0xc0
        je      2f
        and     ecx, 0xfc
        cmp     ecx, 0xd0
        jne     3f
2:      call    next_byte
        cmp     eax, 0xc0
        jae     5f
        and     eax, 0x30
        cmp     eax, 0x10
        jmp     3f
4:      call    next_byte
        and     eax, 0xf0
        cmp     eax, 0x90
        jne     3f
        call    next_byte
        cmp     eax, 0xc0
        jae     5f
        cmp     eax, eax
        jmp     3f
5:      test    rbx, rbx
3:      pop     rbp
        pop     r13
        pop     r12
        ret

# uintN_t helper_rcl(env, operand, count) and _rcr: the flags are gone behind it, and the store is still to come
        .text   0
        .macro  rotation name
        engines helper_\name
        helper  \name
        mov     rax, [rdi+AT_CC_SRC]
        mov     [rip+unrotated], rax
        mov     word ptr [rdi+FLAGS_IN_SRC], ROTATED
        jmp     [rip+e_helper_\name]
        .endm
        .irp    name, rclb, rclw, rcll, rcrb, rcrw, rcrl
        rotation \name
        .endr
        .text   1

# rbx: env, at an instruction: the linear address of its memory operand in eax, its /digit in ecx, its row in r14.
# Carry: it has none, or one of 16 bits that a bit's number moves.
operand:
        push    rbp
        push    r12
        push    r13
        push    r15
        sub     rsp, 40                 # ModR/M, the sum, a count, whether 66 is there, whether a bit's number moves it
        mov     qword ptr [rsp+24], 0
        mov     qword ptr [rsp+32], 0
        mov     r12, [rbx+AT_EIP]
        mov     ebp, [rbx+AT_CS_BASE]
        mov     r13d, [rbx+AT_FLAGS]
        and     r13d, CS32
        mov     r15d, -1                # the segment
1:      call    next_byte
        lea     r14, [rip+table]
        cmp     al, 0xf0
        je      1b
        cmp     al, 0x66
        jne     8f
        mov     dword ptr [rsp+24], 1
        jmp     1b
8:
        mov     ecx, eax
        and     ecx, 0xfe
        cmp     ecx, 0xf2
        je      1b
        cmp     ecx, 0x64
        je      2f
        cmp     al, 0x67
        je      3f
        mov     ecx, eax
        and     ecx, 0xe7
        cmp     ecx, 0x26
        jne     4f
        mov     r15d, eax
        shr     r15d, 3
        and     r15d, 3
        jmp     1b
2:      lea     r15d, [rax-0x60]
        jmp     1b
3:      mov     r13d, [rbx+AT_FLAGS]
        not     r13d
        and     r13d, CS32
        jmp     1b
4:      cmp     al, 0x0f
        jne     5f
        add     r14, 256 * 16
        call    next_byte
        mov     ecx, eax
        and     ecx, 0xe7
        cmp     ecx, 0xa3               # BT, BTS, BTR, BTC with a register
        sete    byte ptr [rsp+32]
        cmp     al, 0x38
        je      9f
        cmp     al, 0x3a
        je      9f
5:      shl     eax, 4
        add     r14, rax
        call    next_byte
        cmp     eax, 0xc0
        jae     9f
        mov     [rsp], eax
        mov     dword ptr [rsp+8], 0
        mov     ecx, eax
        and     eax, 7
        test    r13d, r13d
        jz      .Lof_16_bits
        cmp     eax, 4
        jne     6f
        call    next_byte               # SIB
        mov     ecx, eax
        shr     ecx, 3
        and     ecx, 7
        mov     edx, ecx
        xor     edx, 4
        jz      8f
        mov     edx, [rbx+rcx*8]
8:      mov     ecx, eax
        shr     ecx, 6
        shl     edx, cl
        mov     [rsp+8], edx
        and     eax, 7
6:      mov     ecx, [rsp]
        shr     ecx, 6
        test    ecx, ecx
        jnz     7f
        cmp     eax, 5
        je      .Ldisplacement
7:      mov     edx, [rbx+rax*8]
        add     [rsp+8], edx
        and     eax, 6
        cmp     eax, 4                  # ESP and EBP
        jne     8f
        cmp     r15d, -1
        jne     8f
        mov     r15d, 2
8:      cmp     ecx, 1
        jb      .Lsummed
        ja      .Ldisplacement
        call    next_byte
        movsx   eax, al
        add     [rsp+8], eax
        jmp     .Lsummed
.Ldisplacement:
        mov     dword ptr [rsp+16], 0
8:      call    next_byte
        mov     ecx, [rsp+16]
        shl     eax, cl
        add     [rsp+8], eax
        add     ecx, 8
        mov     [rsp+16], ecx
        cmp     ecx, 32
        jne     8b
        jmp     .Lsummed
# [BX+SI], [BX+DI], [BP+SI], [BP+DI], [SI], [DI], [BP] or a displacement, [BX] (SDM 2A, table 2-1)
.Lof_16_bits:
        cmp     byte ptr [rsp+32], 0
        jne     9f
        shr     ecx, 6
        mov     [rsp+16], ecx
        cmp     eax, 6
        jne     6f
        test    ecx, ecx
        jz      .Lword
6:      lea     ecx, [rax*4]
        mov     edx, 0x35765533         # a nibble each: the register's number
        shr     edx, cl
        and     edx, 7
        mov     r8d, [rbx+rdx*8]
        cmp     edx, 5
        jne     6f
        cmp     r15d, -1
        jne     6f
        mov     r15d, 2
6:      cmp     eax, 4
        jae     6f
        and     eax, 1
        add     r8d, [rbx+rax*8+6*8]
6:      mov     [rsp+8], r8d
        cmp     dword ptr [rsp+16], 1
        jb      .Lhalved
        ja      .Lword
        call    next_byte
        movsx   eax, al
        add     [rsp+8], eax
        jmp     .Lhalved
.Lword: call    next_byte
        add     [rsp+8], eax
        call    next_byte
        shl     eax, 8
        add     [rsp+8], eax
.Lhalved:
        movzx   eax, word ptr [rsp+8]
        mov     [rsp+8], eax
.Lsummed:
        cmp     r15d, -1
        jne     8f
        mov     r15d, 3
8:      imul    edx, r15d, 24
        mov     eax, [rsp+8]
        add     eax, [rbx+rdx+AT_ES_BASE]
        mov     ecx, [rsp]
        shr     ecx, 3
        and     ecx, 7
        cmp     byte ptr [rsp+32], 0
        je      8f
        mov     r8d, [rbx+rcx*8]        # the double word, or the word, that the bit is in
        cmp     byte ptr [rsp+24], 0
        jne     7f
        sar     r8d, 5
        lea     eax, [rax+r8*4]
        jmp     8f
7:      movsx   r8d, r8w
        sar     r8d, 4
        lea     eax, [rax+r8*2]
8:      clc
        jmp     8f
9:      stc
8:      lea     rsp, [rsp+40]
        pop     r15
        pop     r13
        pop     r12
        pop     rbp
        ret
.Lpending:
        test    byte ptr [rdi+AT_CR0], CR0_NE
        jz      .Lraise
        test    rcx, rcx                # code that is not there is another matter
        jz      .Lraise
        mov     eax, 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17
        bt      eax, esi
        jnc     .Lraise
        push    rbx
        push    r12
        push    rbp
        push    rcx
        push    rdx
        push    rsi
        sub     rsp, 8
        mov     rbx, rdi
        lea     rdi, [rbx-ENV_IN_CPU]
        mov     rsi, rcx
        mov     edx, 1
        call    [rip+e_cpu_restore_state]
        mov     r12, [rbx+AT_EIP]
        mov     ebp, [rbx+AT_CS_BASE]
3:      call    next_byte
        mov     ecx, eax
        and     ecx, 0xe7
        cmp     ecx, 0x26
        je      3b
        mov     ecx, eax
        and     ecx, 0xfc
        cmp     ecx, 0x64
        je      3b
        mov     ecx, eax
        and     ecx, 0xf8
        cmp     ecx, 0xd8
        jne     5f
        push    rax
        sub     rsp, 8
        call    next_byte
        add     rsp, 8
        pop     rcx
        and     ecx, 7
        shr     eax, 3
        and     eax, 7
        cmp     eax, 6
        jb      4f
        cmp     ecx, 1                  # FNSTENV, FNSTCW
        je      5f
        cmp     ecx, 5                  # FNSAVE, FNSTSW
        je      5f
4:      mov     dword ptr [rsp+8], MF
5:      mov     rdi, rbx
        add     rsp, 8
        pop     rsi
        pop     rdx
        pop     rcx
        pop     rbp
        pop     r12
        pop     rbx
        cmp     esi, MF
        jne     .Lraise
        push    rcx
        call    note_opcode
        pop     rdx
        mov     esi, MF
        jmp     [rip+e_raise_exception_ra]
        .text   0

        .macro  checked mask, name
        helper  \name
        checks  \mask
        jmp     [rip+e_helper_\name]
        .endm
        engines helper_cmpxchg8b
        engines helper_cmpxchg8b_unlocked
        engines helper_boundw
        engines helper_boundl
        checked 7, cmpxchg8b
        checked 7, cmpxchg8b_unlocked
        checked 1, boundw
        checked 3, boundl
# helper_maskmov_mmx and _xmm(env, bytes, mask, address): all eight or sixteen bytes are asked for, whatever the mask, and
# aligned to eight, as seen on an AMD host
        .macro  masked name, size
        engines helper_\name
        helper  \name
        .ifc    \name, maskmov_mmx      # its #AC comes when the x87 state is MMX's, its #PF before
        test    ecx, 7
        jz      1f
        push    rbx
        mov     rbx, rdi
        call    asks_alignment
        pop     rbx
        jz      1f
        push    rdi
        call    [rip+e_helper_enter_mmx]
        pop     rdi
        mov     rcx, [rsp]
        mov     esi, 17
        xor     edx, edx
        jmp     [rip+e_raise_exception_err_ra]
1:
        .else
        checks  7, ecx
        .endif
        push    rdi
        push    rsi
        push    rdx
        push    rcx
        sub     rsp, 8
        mov     esi, ecx
        mov     edx, \size
        mov     rcx, [rsp+40]
        call    all_writable
        add     rsp, 8
        pop     rcx
        pop     rdx
        pop     rsi
        pop     rdi
        jmp     [rip+e_helper_\name]
        .endm
        masked  maskmov_mmx, 8
        masked  maskmov_xmm, 16
        .text   1
# esi: address, edx: bytes, rcx: into translated code
all_writable:
        push    rbx
        push    r12
        push    r13
        push    r14
        sub     rsp, 8
        mov     rbx, rdi
        mov     r12, rcx
        mov     r14d, STORE
        lea     r13d, [rsi+rdx-1]
        xor     r13d, esi
        test    r13d, -4096
        lea     r13d, [rsi+rdx-1]
        jnz     1f
        xor     r13d, r13d
1:      and     r13d, -4096
        push    r13
        sub     rsp, 8
        call    touch
        add     rsp, 8
        pop     rsi
        test    esi, esi
        jz      2f
        call    touch
2:      add     rsp, 8
        pop     r14
        pop     r13
        pop     r12
        pop     rbx
        ret
        .text   0

# helper_pause(env, length): single-stepped, #DB behind it; the engine's own ends the block without
        engines helper_pause
        helper  pause
        test    dword ptr [rdi+AT_EFLAGS], EFLAGS_TF
        jnz     1f
        jmp     [rip+e_helper_pause]
1:      add     [rdi+AT_EIP], esi
        and     dword ptr [rdi+AT_FLAGS], ~INHIBITED
        sub     rsp, 8
        call    [rip+e_helper_single_step]

# cpu_loop_exit_restore(cpu, return address): what faults or is stopped in the midst of an instruction
        engines cpu_loop_exit_restore
        listed  leave_restored, 2, leave_restored
        slot    cpu_loop_exit_restore
leave_restored:
        test    rsi, rsi
        jz      1f
        mov     rax, [rdi+ENV_OF_CPU]
        cmp     word ptr [rax+FLAGS_IN_SRC], 0
        je      1f
        push    rbx
        push    rdi
        push    rsi
        mov     rbx, rax
        mov     edx, 1
        call    [rip+e_cpu_restore_state]
        call    settle
        pop     rsi
        pop     rdi
        pop     rbx
        jne     1f
        xor     esi, esi                # the state is the instruction's, and is not to be restored once more
1:      jmp     [rip+e_cpu_loop_exit_restore]

# cpu_loop_exit_noexc(cpu): an instruction whose store was into its own block begins again
        slot    cpu_loop_exit_noexc
        push    rbx
        push    rdi
        sub     rsp, 8
        mov     rbx, [rdi+ENV_OF_CPU]
        call    settle
        add     rsp, 8
        pop     rdi
        pop     rbx
        jmp     [rip+e_cpu_loop_exit_noexc]

        engines helper_fxsave
        helper  fxsave
        checks  3
        mov     [rdi+FT0], esi
        jmp     [rip+e_helper_fxsave]

# helper_iret_protected and _lret_protected(env, 32 bits, ...): what they take from the stack
        .macro  pops name, slots
        engines helper_\name
        helper  \name
        mov     r10d, [rdi+AT_ESP]
        add     r10d, [rdi+AT_SS_BASE]
        lea     eax, [rsi+rsi+1]
        test    r10d, eax
        jz      1f
        call    misaligned
1:      test    byte ptr [rdi+AT_FLAGS], 3
        jz      2f
        mov     eax, \slots
        call    popped
        .if     \slots == 3
        test    eax, EFLAGS_VM
        jnz     stay_protected
        .endif
2:      jmp     [rip+e_helper_\name]
        .endm
        pops    iret_protected, 3
        pops    lret_protected, 2

        .text   1
# eax: how many slots of 2 bytes, or of 4 (esi is 1), are taken from ring 3's stack: as a program's loads, and the last
# first, as seen on an AMD host; the engine takes them as the supervisor.  An inner ring's CS is refused, behind the
# stack pointer that would be read with it.  Back in eax: EFLAGS of an IRET of 32 bits.  Called by a helper, first of all.
popped: push    rbx
        push    rbp
        push    r12
        push    r14
        push    r15
        push    rdi
        push    rsi
        push    rdx
        sub     rsp, 16
        mov     rbx, rdi
        mov     r12, [rsp+88]
        lea     r15d, [rsi*2+2]
        mov     ebp, eax
        mov     [rsp], eax
        mov     dword ptr [rsp+8], 0    # bytes that RET n leaves out
        xor     r14d, r14d              # a load
        mov     ecx, [rbx+AT_FLAGS]
        not     ecx
        test    ecx, 3
        jnz     3f
1:      dec     ebp
        js      6f
        call    whole
        jmp     1b
6:      mov     ebp, 1
        xor     eax, eax
        call    2f
        mov     rdi, rbx
        mov     rdx, r12
        call    [rip+e_cpu_lduw_data_ra]
        not     eax
        test    al, 3
        jz      3f
        mov     ebp, [rsp]
        mov     eax, [rsp+16]           # the third argument
        cmp     ebp, 2
        cmovne  eax, r14d
        mov     [rsp+8], eax
        inc     ebp
        call    whole
        dec     ebp
        call    whole
3:      xor     eax, eax
        cmp     dword ptr [rsp], 3
        jne     7f
        cmp     r15d, 4
        jne     7f
        mov     ebp, 2
        call    2f
        mov     rdi, rbx
        mov     rdx, r12
        call    [rip+e_cpu_ldl_data_ra]
7:      add     rsp, 16
        jmp     5f
whole:  mov     eax, [rsp+16]
        sub     rsp, 8
        call    2f
        lea     eax, [r15-1]
        test    esi, eax
        jz      9f
        call    asks_alignment
        jz      9f
        mov     rdi, rbx
        mov     esi, 17
        xor     edx, edx
        mov     rcx, r12
        call    [rip+e_raise_exception_err_ra]
9:
        call    touch
        mov     eax, [rsp+24]
        call    2f
        lea     eax, [rsi+r15-1]
        xor     esi, eax
        test    esi, -4096
        jz      8f
        mov     esi, eax
        and     esi, -4096
        call    touch
8:      add     rsp, 8
        ret
2:      mov     esi, ebp                # where a slot is, behind eax bytes
        imul    esi, r15d
        add     esi, eax
        add     esi, [rbx+AT_ESP]
        test    byte ptr [rbx+AT_FLAGS], HF_SS32
        jnz     4f
        movzx   esi, si
4:      add     esi, [rbx+AT_SS_BASE]
        ret
5:      pop     rdx
        pop     rsi
        pop     rdi
        pop     r15
        pop     r14
        pop     r12
        pop     rbp
        pop     rbx
        ret

# IRET whose EFLAGS have VM, outside ring 0: VM is left as it is (SDM 2A, IRET), where the engine would enter V86 with
# the program's IOPL.  A far return that leaves EFLAGS out, and EFLAGS.
stay_protected:
        push    rbx
        push    r12
        sub     rsp, 8
        mov     rbx, rdi
        mov     r12d, eax
        lea     rdi, [rbx-ENV_IN_CPU]
        mov     rsi, [rsp+24]
        mov     edx, 1
        call    [rip+e_cpu_restore_state]
        mov     rdi, rbx
        mov     esi, 1
        mov     edx, 4
        call    [rip+e_helper_lret_protected]
        mov     ecx, r12d
        and     ecx, 0x8d5
        mov     [rbx+AT_CC_SRC], rcx
        mov     dword ptr [rbx+AT_CC_OP], CC_OP_EFLAGS
        mov     ecx, r12d
        shr     ecx, 9
        and     ecx, 2
        mov     eax, 1
        sub     eax, ecx
        mov     [rbx+AT_DF], eax
        mov     eax, [rbx+AT_EFLAGS]
        mov     ecx, eax
        shr     ecx, 12
        and     ecx, 3
        mov     edx, [rbx+AT_FLAGS]
        and     edx, 3
        cmp     ecx, edx
        mov     edx, BY_PROGRAM
        mov     ecx, BY_PROGRAM | 0x200
        cmovae  edx, ecx
        and     r12d, edx
        not     edx
        and     eax, edx
        or      eax, r12d
        mov     [rbx+AT_EFLAGS], eax
        mov     rdi, rbx
        add     rsp, 8
        pop     r12
        pop     rbx
        ret
        .text   0

# helper_raise_interrupt(env, vector, length): ICEBP, which the translator has read as INT3, is #DB behind it
        helper  raise_interrupt
        cmp     esi, 3
        je      2f
1:      jmp     [rip+e_helper_raise_interrupt]
2:      push    rdi
        push    rsi
        push    rdx
        mov     eax, [rdi+AT_EIP]
        lea     eax, [rax+rdx-1]
        mov     rsi, [rdi+AT_CS_BASE]
        add     rsi, rax
        call    [rip+e_cpu_ldub_code]
        pop     rdx
        pop     rsi
        pop     rdi
        cmp     al, 0xf1
        jne     1b
        sub     rsp, 8
        add     [rdi+AT_EIP], edx
        mov     esi, 1
        xor     edx, edx
        call    [rip+e_raise_exception_err]

# helper_rdpmc(env): #GP(0) outside ring 0 unless CR4.PCE is set (SDM 2B); two counters, which stand still
        helper  rdpmc
        test    byte ptr [rdi+AT_FLAGS], 3
        jz      1f
        test    dword ptr [rdi+AT_CR4], CR4_PCE
        jz      2f
1:      cmp     dword ptr [rdi+8], 2
        jae     2f
        xor     eax, eax
        mov     [rdi], rax
        mov     [rdi+16], rax
        ret
2:      mov     rcx, [rsp]
        mov     esi, 13
        xor     edx, edx
        sub     rsp, 8
        call    [rip+e_raise_exception_err_ra]

# -- the table: a row for each opcode of the maps 00, 0F, 0F 38 and 0F 3A ------------------------------------------
#
# lock: the /digits of a memory operand that LOCK may precede (SDM 2A, LOCK).  kind: what is to be done; 0 reads no
# ModR/M.  aligned: 1 without a prefix, 2 with 66, 4 F3, 8 F2.  m, r: /digits that are #UD for a memory operand and for
# a register, without a prefix and with each.  wide: 16 bytes that only #AC wants aligned, as AMD's processors do.  half:
# four bytes, of which the engine would read eight.  single: eight bytes or four, of which it would read sixteen.  mmx,
# mmx_rm: see above.  stores: the /digits that store to memory.  Rows ascend.

        .macro  row opcode, kind=KIND_PLAIN, lock=0, aligned=0, m=0, m66=0, mF3=0, mF2=0, r=0, r66=0, rF3=0, rF2=0, wide=0, half=0, mmx=0, mmx_rm=0, stores=0, single=0
        .org    table + 16 * (\opcode)
        .byte   \lock, \kind, \aligned, \wide, \m, \m66, \mF3, \mF2, \r, \r66, \rF3, \rF2, \half | \single << SINGLE_AT, \mmx, \mmx_rm, \stores
        .endm
        .macro  rows map, aligned, opcodes:vararg
        .irp    opcode, \opcodes
        row     \map + \opcode, aligned=\aligned
        .endr
        .endm
        .macro  both map, aligned, opcodes:vararg       # of MMX, and of SSE with 66
        .irp    opcode, \opcodes
        row     \map + \opcode, aligned=\aligned, mmx=1
        .endr
        .endm
        .set    ALL, 0xff
        .set    TWO, 0x100              # 0F
        .set    IN_38, 0x200
        .set    IN_3A, 0x300

        .text   4
        .balign 16
table:
        .irp    operation, 0, 8, 0x10, 0x18, 0x20, 0x28, 0x30
        row     \operation, lock=ALL, stores=ALL
        row     \operation + 1, lock=ALL, stores=ALL
        .endr
        .irp    opcode, 0x6c, 0x6d, 0x6e, 0x6f
        row     \opcode, kind=KIND_PORTS
        .endr
        .irp    opcode, 0x80, 0x81, 0x82, 0x83
        row     \opcode, lock=0x7f, stores=0x7f
        .endr
        row     0x86, lock=ALL, stores=ALL
        row     0x87, lock=ALL, stores=ALL
        row     0x88, kind=0, stores=ALL
        row     0x89, kind=0, stores=ALL
        row     0x8c, m=0xc0, m66=0xc0, mF3=0xc0, mF2=0xc0, r=0xc0, r66=0xc0, rF3=0xc0, rF2=0xc0, stores=ALL
        row     0x8e, m=0xc2, m66=0xc2, mF3=0xc2, mF2=0xc2, r=0xc2, r66=0xc2, rF3=0xc2, rF2=0xc2
        row     0x8f, stores=1, m=0xfe, m66=0xfe, mF3=0xfe, mF2=0xfe, r=0xfe, r66=0xfe, rF3=0xfe, rF2=0xfe
        row     0xa2, kind=0, stores=ALL
        row     0xa3, kind=0, stores=ALL
        row     0xc0, kind=KIND_ROTATE, stores=ALL
        row     0xc1, kind=KIND_ROTATE, stores=ALL
        row     0xc4, kind=KIND_VEX
        row     0xc5, kind=KIND_VEX
        row     0xc6, stores=1, m=0xfe, m66=0xfe, mF3=0xfe, mF2=0xfe, r=0xfe, r66=0xfe, rF3=0xfe, rF2=0xfe
        row     0xc7, stores=1, m=0xfe, m66=0xfe, mF3=0xfe, mF2=0xfe, r=0xfe, r66=0xfe, rF3=0xfe, rF2=0xfe
        .irp    opcode, 0xd0, 0xd1, 0xd2, 0xd3
        row     \opcode, kind=KIND_ROTATE, stores=ALL
        .endr
        row     0xd9, kind=KIND_X87, stores=0xcc
        row     0xda, kind=KIND_FCMOV
        row     0xdb, kind=KIND_FCMOV, stores=0x8e
        row     0xdd, kind=0, stores=0xce
        row     0xdf, kind=KIND_X87, stores=0xce
        row     0xf1, kind=KIND_ICEBP
        row     0xf6, kind=KIND_TEST, lock=0x0c, stores=0x0c
        row     0xf7, kind=KIND_TEST, lock=0x0c, stores=0x0c
        row     0xfe, lock=3, stores=3
        row     0xff, lock=3, stores=3

        row     TWO, kind=0, stores=3
        row     TWO + 1, kind=0, stores=0x13
        row     TWO + 0x10, wide=3
        row     TWO + 0x11, wide=3, stores=ALL
        row     TWO + 0x12, r66=ALL, aligned=4
        row     TWO + 0x13, kind=0, stores=ALL
        rows    TWO, 3, 0x14, 0x15
        row     TWO + 0x16, r66=ALL, aligned=4
        row     TWO + 0x17, kind=0, stores=ALL
        row     TWO + 0x18, kind=KIND_HINT
        .irp    opcode, 0x20, 0x22      # CR1, CR5 to CR7
        row     TWO+\opcode, m=0xe2, m66=0xe2, mF3=0xe2, mF2=0xe2, r=0xe2, r66=0xe2, rF3=0xe2, rF2=0xe2
        .endr
        row     TWO + 0x28, aligned=3
        row     TWO + 0x29, aligned=3, stores=ALL
        row     TWO + 0x2a, kind=KIND_FROM_MMX
        row     TWO + 0x2b, aligned=3, stores=ALL
        row     TWO + 0x2c, aligned=2, mmx=3, single=1
        row     TWO + 0x2d, aligned=2, mmx=3, single=1
        row     TWO + 0x50, m=ALL, m66=ALL, mF3=ALL, mF2=ALL
        rows    TWO, 3, 0x51
        rows    TWO, 1, 0x52, 0x53
        rows    TWO, 3, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59
        row     TWO + 0x5a, aligned=2, single=1
        rows    TWO, 7, 0x5b
        rows    TWO, 3, 0x5c, 0x5d, 0x5e, 0x5f
        .irp    opcode, 0x60, 0x61, 0x62
        row     TWO + \opcode, aligned=2, half=1, mmx=1
        .endr
        both    TWO, 2, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b
        rows    TWO, 2, 0x6c, 0x6d
        both    TWO, 0, 0x6e
        row     TWO + 0x6f, aligned=2, wide=4, mmx=1
        both    TWO, 14, 0x70
        .irp    opcode, 0x71, 0x72, 0x73
        row     TWO + \opcode, m=ALL, m66=ALL, mF3=ALL, mF2=ALL, mmx_rm=1
        .endr
        both    TWO, 2, 0x74, 0x75, 0x76
        .irp    opcode, 0x78, 0x79      # SSE4A, which CPUID does not tell of
        row     TWO + \opcode, m66=ALL, mF2=ALL, r66=ALL, rF2=ALL
        .endr
        rows    TWO, 10, 0x7c, 0x7d
        row     TWO + 0x7e, kind=0, stores=ALL
        row     TWO + 0x7f, aligned=2, wide=4, mmx_rm=1, stores=ALL
        .irp    opcode, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        row     TWO + 0x90 + \opcode, kind=KIND_SET, stores=ALL
        .endr
        row     TWO + 0xa4, kind=0, stores=ALL
        row     TWO + 0xa5, kind=0, stores=ALL
        row     TWO + 0xab, lock=ALL, stores=ALL
        row     TWO + 0xac, kind=0, stores=ALL
        row     TWO + 0xad, kind=0, stores=ALL
        row     TWO + 0xae, stores=0x19, kind=KIND_RESTORE, m66=0x0f, mF3=0x0f, mF2=0x0f, r66=0xe0, rF3=0xe0, rF2=0xe0
        row     TWO + 0xb0, lock=ALL, stores=ALL
        row     TWO + 0xb1, lock=ALL, stores=ALL
        row     TWO + 0xb3, lock=ALL, stores=ALL
        row     TWO + 0xba, lock=0xe0, stores=0xe0
        row     TWO + 0xbb, lock=ALL, stores=ALL
        row     TWO + 0xc0, lock=ALL, stores=ALL
        row     TWO + 0xc1, lock=ALL, stores=ALL
        row     TWO + 0xc2, kind=KIND_COMPARE, aligned=3
        row     TWO + 0xc3, stores=ALL, m66=ALL, mF3=ALL, mF2=ALL
        both    TWO, 0, 0xc4
        rows    TWO, 3, 0xc6
        row     TWO + 0xc7, lock=2, stores=2
        rows    TWO, 10, 0xd0
        both    TWO, 2, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5
        row     TWO + 0xd6, stores=ALL, mF3=ALL, mF2=ALL, mmx=8
        both    TWO, 2, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xe0, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5
        row     TWO + 0xe6, aligned=10, single=4
        row     TWO + 0xe7, aligned=2, stores=ALL
        both    TWO, 2, 0xe8, 0xe9, 0xea, 0xeb, 0xec, 0xed, 0xee, 0xef
        row     TWO + 0xf0, wide=8
        both    TWO, 2, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6
        row     TWO + 0xf7, kind=0, stores=ALL
        both    TWO, 2, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe

        both    IN_38, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
        rows    IN_38, 2, 0x10, 0x14, 0x15, 0x17
        both    IN_38, 2, 0x1c, 0x1d, 0x1e
        rows    IN_38, 2, 0x28, 0x29, 0x2a, 0x2b, 0x37, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x40, 0x41
        rows    IN_38, 2, 0xdb, 0xdc, 0xdd, 0xde, 0xdf
        row     IN_38 + 0xf0, r=ALL, r66=ALL
        row     IN_38 + 0xf1, r=ALL, r66=ALL

        rows    IN_3A, 2, 8, 9
        row     IN_3A + 0x0a, half=2, single=2
        row     IN_3A + 0x0b, single=2
        rows    IN_3A, 2, 0x0c, 0x0d, 0x0e
        both    IN_3A, 2, 0x0f
        .irp    opcode, 0x14, 0x15, 0x16, 0x17
        row     IN_3A + \opcode, kind=0, stores=ALL
        .endr
        rows    IN_3A, 2, 0x40, 0x41, 0x42, 0x44
        .irp    opcode, 0x60, 0x61, 0x62, 0x63
        row     IN_3A + \opcode, wide=2
        .endr
        rows    IN_3A, 2, 0xdf
        .org    table + 16 * 1024

# -- a page of data ------------------------------------------------------------------------------------------------
        .balign 4096
data:
operations: .fill 7, 8, 0
translate_one: .quad 0
first:  .quad   0                       # linear address of what was judged
judged: .quad   0                       # how many bytes of it are read as
bytes:  .fill   16, 1, 0                # these
translator: .quad 0                     # TCGContext
every:  .long   0                       # what is to be added to all loads and stores of a block
        .balign 8
aligned: .long  0                       # and in the place of it to the next one; eight bytes from here are of one instruction
wide:   .byte   0                       # `aligned` is for #AC only
half:   .byte   0                       # the next load is of four bytes, not eight
before: .byte   0                       # a call of ffree_STN with this before the instruction
into_mmx: .byte 0                       # it has this MMX register as its result, + 1
        .balign 8
behind: .byte   0                       # a call behind it; eight bytes from here are of one instruction, too
enters: .byte   0                       # it makes the x87 state MMX's
converts: .byte 0                       # it has to do with MMX by name only
flagged: .byte  0                       # it computes EFLAGS before it reaches memory
single: .byte   0                       # 1: one load of eight bytes is all; 2: it has been
        .balign 8
unrotated: .quad 0                      # the flags before the helper of an RCL or RCR
kept:   .fill   3, 8, 0                 # temporaries of FIP, FOP and FCS between emit_keep and emit_back
        .balign 8
storing: .byte  0                       # the next store ends what an x87 store does with the status word
        .balign 8
        .balign 4096
        .text   0
