# The clock, in line, and no questions behind each access to memory.  x86-64, System V calling convention.
#
# The engine's translator calls ``helper_check_exit_request(uc, 0)`` in front of every block, to see whether somebody
# wants the run to end.  ``emit`` stands in its way to the generator of calls and writes these operations instead:
#
#       counted = pad.end != start              # control did not fall through from the block before
#       pad.first, pad.end = start, start + size
#       pad.blocks -= counted
#       pad.fuel -= not counted
#       if pad.blocks < 0 or pad.fuel - counted < 0 or somebody wants the run to end:
#               helper_check_exit_request(uc, INLINE)
#
# It calls it behind every load and store, too, where hardly anybody can have asked: only who answers in the place of
# RAM, and that is when the access goes through the engine's slow path.  ``check_code`` lets it do so behind hooks of
# instructions only, and ``load_*`` and ``store_*`` look behind the slow path instead.
#
# The bytes are kept in ../clockcode.py; tests/engine/test_clockcode.py assembles this file and compares.

        .intel_syntax noprefix
        .text

        .set    BLOCKS,         0       # in the pad, as in stubs.S
        .set    STOP,           8
        .set    REASON,         36
        .set    STEPS,          40
        .set    SKIP,           48
        .set    FIRST,          56
        .set    END,            64
        .set    FUEL,           72

        .set    SPENT,          2
        .set    PAUSED,         7

        .set    INLINE,         3       # flags of the calls that are made here; the engine's own have 0 or 1
        .set    AGAIN,          2

        .set    TCG_ENGINE,     0x9970  # in the translator's context
        .set    TCG_ENV,        0x98f0
        .set    EXIT_REQUEST,   -0x10   # from CPUX86State: negative when the run is to end
        .set    ENV_ENGINE,     0x1b58
        .set    OP_ARGS,        0x18

        .set    TB_PC,          0       # in a block
        .set    TB_CS_BASE,     8
        .set    TB_FLAGS,       0x10
        .set    TB_SIZE,        0x14
        .set    TB_CFLAGS,      0x18
        .set    TB_TRACE,       0x1c
        .set    TB_CODE,        0x20
        .set    TB_EFLAGS,      0x73100 # VM, RF, IOPL, TF: of EFLAGS what blocks differ by
        .set    TB_LOOKED_AT,   0xff0effff

        .set    ENV_EIP,        0x80    # in CPUX86State, and before it in CPUState
        .set    ENV_EFLAGS,     0x88
        .set    ENV_HFLAGS,     0xb0
        .set    ENV_CS_BASE,    0xd8
        .set    JUMP_CACHE,     -0x8918
        .set    CPU_TRACE,      -0x8c8
        .set    CPU_CLUSTER,    -0x8bc

        .set    I64,            1
        .set    OP_SET_LABEL,   1       # operations (QEMU 5.0, tcg-opc.h)
        .set    OP_MOVI,        64
        .set    OP_SETCOND,     65
        .set    OP_LD32S,       72
        .set    OP_LD,          73
        .set    OP_ST,          77
        .set    OP_ADD,         78
        .set    OP_SUB,         79
        .set    OP_OR,          88
        .set    IS_NOT,         9
        .set    NOT_LESS,       3

        .macro  op3     kind, a, b, c
        mov     r8, \c
        mov     rcx, \b
        mov     rdx, \a
        mov     esi, \kind
        mov     rdi, rbx
        call    [rip+gen_op3]
        .endm

        .macro  temporary where
        mov     rdi, rbx
        mov     esi, I64
        xor     edx, edx
        call    [rip+temp_new]
        mov     \where, rax
        .endm

        .macro  constant where          # of rsi
        mov     rdi, rbx
        call    [rip+const_quad]
        lea     \where, [rbx+rax]
        .endm

        .macro  free    what
        mov     rdi, rbx
        mov     rsi, \what
        call    [rip+temp_free]
        .endm

# gen_intermediate_code(cpu, block, most): know the block while it is translated, and its size behind that
translate:
        push    rbx
        mov     rbx, rsi
        mov     [rip+block], rsi
        mov     [rip+most], edx
        mov     qword ptr [rip+size_at], 0
        call    [rip+old_translate]
        mov     rcx, [rip+size_at]
        mov     qword ptr [rip+block], 0
        test    rcx, rcx
        jz      1f
        movzx   edx, word ptr [rbx+TB_SIZE]
        add     rdx, [rbx]
        mov     [rcx], rdx
1:      pop     rbx
        ret

        .balign 16
# tcg_gen_callN(tcg, function, result, arguments, list)
emit:
        cmp     rsi, [rip+helper]
        jne     9f
        mov     rax, [rip+block]
        test    rax, rax
        jz      9f
        mov     qword ptr [rip+block], 0
        mov     r10, [rip+cell]
        mov     r10, [r10]
        test    r10, r10
        jnz     1f
9:      jmp     [rip+gen_call]
1:      push    rbx
        push    rbp
        push    r12
        push    r13
        push    r14
        push    r15
        sub     rsp, 24
        mov     rbx, rdi
        mov     rbp, [rax]              # TranslationBlock.pc
        cmp     dword ptr [rip+most], 1
        je      again
        mov     rsi, r10
        constant r12                    # the pad
        temporary r13
        op3     OP_LD, r13, r12, END
        mov     rsi, rbp
        constant rbp
        op3     OP_ST, rbp, r12, FIRST
        mov     r9d, IS_NOT
        mov     r8, rbp
        mov     rcx, r13
        mov     rdx, r13
        mov     esi, OP_SETCOND
        mov     rdi, rbx
        call    [rip+gen_op4]
        free    rbp
        temporary rbp
        mov     rdi, rbx
        mov     esi, OP_MOVI
        call    [rip+emit_op]
        mov     [rax+OP_ARGS], rbp
        add     rax, OP_ARGS+8
        mov     [rip+size_at], rax
        op3     OP_ST, rbp, r12, END
        temporary r14
        op3     OP_LD, r14, r12, BLOCKS
        op3     OP_SUB, r14, r14, r13
        op3     OP_ST, r14, r12, BLOCKS
        op3     OP_LD, rbp, r12, FUEL
        mov     rsi, -1
        constant r15
        op3     OP_ADD, rbp, rbp, r15
        free    r15
        op3     OP_ADD, rbp, rbp, r13
        op3     OP_ST, rbp, r12, FUEL
        op3     OP_SUB, rbp, rbp, r13
        op3     OP_OR, r14, r14, rbp
        mov     r15, [rbx+TCG_ENV]
        add     r15, rbx
        op3     OP_LD32S, rbp, r15, EXIT_REQUEST
        op3     OP_OR, r14, r14, rbp
        mov     rdi, rbx
        call    [rip+new_label]
        mov     r15, rax
        mov     r8, rax
        xor     ecx, ecx
        mov     rdx, r14
        sub     rdx, rbx
        mov     esi, NOT_LESS
        mov     rdi, rbx
        call    [rip+branch]
        free    r14
        free    rbp
        free    r13
        free    r12
        mov     esi, INLINE
        call    ask
        or      byte ptr [r15], 1       # TCGLabel.present
        mov     rdx, r15
        mov     esi, OP_SET_LABEL
        mov     rdi, rbx
        call    [rip+gen_op1]
        jmp     leave

# A block of one instruction may be the end of the one before, done again because it changed its own code: ``told``
# finds out when it runs.
again:
        lea     rsi, [rip+first]
        constant r12
        mov     rsi, rbp
        constant r13
        op3     OP_ST, r13, r12, 0
        temporary r14
        mov     rdi, rbx
        mov     esi, OP_MOVI
        call    [rip+emit_op]
        mov     [rax+OP_ARGS], r14
        add     rax, OP_ARGS+8
        mov     [rip+size_at], rax
        op3     OP_ST, r14, r12, 8
        free    r14
        free    r13
        free    r12
        mov     esi, AGAIN
        call    ask
leave:  add     rsp, 24
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     rbp
        pop     rbx
        ret

# emit a call of the helper with a flag, esi
ask:    sub     rsp, 40
        mov     rdi, rbx
        call    [rip+const_long]
        add     rax, rbx
        mov     [rsp+8], rax
        mov     rsi, [rbx+TCG_ENGINE]
        mov     rdi, rbx
        call    [rip+const_quad]
        add     rax, rbx
        mov     [rsp], rax
        mov     r8, rsp
        mov     ecx, 2
        xor     edx, edx
        mov     rsi, [rip+helper]
        mov     rdi, rbx
        call    [rip+gen_call]
        free    [rsp]
        free    [rsp+8]
        add     rsp, 40
        ret

        .balign 16
# helper_check_exit_request(uc, flag): why the run ends, and its end
told:
        cmp     esi, AGAIN
        jb      9f
        mov     rcx, [rip+cell]
        mov     rcx, [rcx]
        je      3f
1:      cmp     dword ptr [rcx+REASON], 0
        jne     8f
        cmp     qword ptr [rcx+BLOCKS], 0
        mov     eax, SPENT
        jl      2f
        cmp     qword ptr [rcx+FUEL], 0
        mov     eax, PAUSED
        jg      8f
2:      mov     [rcx+REASON], eax
        push    rdi
        call    [rcx+STOP]
        pop     rdi
8:      xor     esi, esi
9:      jmp     [rip+check]

3:      mov     rsi, [rip+first]
        mov     r8, [rip+end]
        mov     rax, [rcx+END]
        mov     r9, [rcx+FIRST]
        mov     [rcx+FIRST], rsi
        mov     [rcx+END], r8
        cmp     rax, rsi
        je      6f
        cmp     rsi, r9
        jb      4f
        cmp     r8, rax
        jb      5f
4:      sub     qword ptr [rcx+BLOCKS], 1
        js      1b
        cmp     qword ptr [rcx+FUEL], 0
        jle     1b
        jmp     8b
5:      add     qword ptr [rcx+STEPS], 1        # its instruction is refunded, its breakpoint was passed before
        mov     [rcx+SKIP], rsi
6:      sub     qword ptr [rcx+FUEL], 1
        js      1b
        jmp     8b

        .balign 16
# check_exit_request(tcg): emit the question behind the hooks of an instruction, and nothing behind an access
check_code:
        mov     rax, [rsp]
        cmp     rax, [rip+code_hooks]
        jne     1f
        jmp     [rip+ask_for_end]
1:      ret

# uintN_t load(env, linear, how, back) and void store(env, linear, value, how, back): the slow path; back: into the block
        .macro  looks   name, back
        .balign 16
\name: push    \back
        push    rdi
        sub     rsp, 8
        call    [rip+old_\name]
        add     rsp, 8
        pop     rdi
        pop     rsi
        cmp     dword ptr [rdi+EXIT_REQUEST], 0
        js      end_it
        ret
        .endm

        looks   load_byte, rcx
        looks   load_word, rcx
        looks   load_long, rcx
        looks   load_quad, rcx
        looks   store_byte, r8
        looks   store_word, r8
        looks   store_long, r8
        looks   store_quad, r8

end_it: mov     rdi, [rdi+ENV_ENGINE]
        xor     esi, esi
        jmp     [rip+check]             # finds the instruction by its return address, which is the block's

        .balign 16
# void *helper_lookup_tb_ptr(env): the block that an indirect jump goes to, from the engine's cache; its own function
# does the same in twice the instructions, and knows what to do when the cache does not have it
lookup:
        mov     rdx, [rdi+ENV_CS_BASE]
        mov     rsi, [rdi+ENV_EIP]
        add     rsi, rdx
        mov     ecx, [rdi+ENV_EFLAGS]
        and     ecx, TB_EFLAGS
        or      ecx, [rdi+ENV_HFLAGS]
        mov     rax, rsi
        shr     rax, 6
        xor     rax, rsi
        mov     r8d, eax
        and     eax, 0x3f
        shr     r8d, 6
        and     r8d, 0xfc0
        or      eax, r8d
        mov     rax, [rdi+rax*8+JUMP_CACHE]
        test    rax, rax
        jz      1f
        cmp     rsi, [rax+TB_PC]
        jne     1f
        cmp     rdx, [rax+TB_CS_BASE]
        jne     1f
        cmp     ecx, [rax+TB_FLAGS]
        jne     1f
        mov     r8d, [rax+TB_TRACE]
        cmp     r8, [rdi+CPU_TRACE]
        jne     1f
        mov     ecx, [rax+TB_CFLAGS]
        mov     r8d, [rdi+CPU_CLUSTER]
        and     ecx, TB_LOOKED_AT
        shl     r8d, 24
        cmp     ecx, r8d
        jne     1f
        mov     rax, [rax+TB_CODE]
        ret
1:      jmp     [rip+old_lookup]
end_of_code:

        .balign 4096
cell:           .quad 0                 # where stubs.S keeps the pad of the CPU that runs
helper:         .quad 0                 # what the translator calls by the name of the helper
check:          .quad 0                 # the helper
block:          .quad 0
most:           .quad 0
size_at:        .quad 0
first:          .quad 0
end:            .quad 0
old_translate:  .quad 0
gen_call:       .quad 0
gen_op1:        .quad 0
gen_op3:        .quad 0
gen_op4:        .quad 0
emit_op:        .quad 0
temp_new:       .quad 0
temp_free:      .quad 0
const_long:     .quad 0
const_quad:     .quad 0
new_label:      .quad 0
branch:         .quad 0
code_hooks:     .quad 0                 # where it returns to when it asked behind the hooks of an instruction
ask_for_end:    .quad 0
old_load_byte:  .quad 0
old_load_word:  .quad 0
old_load_long:  .quad 0
old_load_quad:  .quad 0
old_store_byte: .quad 0
old_store_word: .quad 0
old_store_long: .quad 0
old_store_quad: .quad 0
old_lookup:     .quad 0
