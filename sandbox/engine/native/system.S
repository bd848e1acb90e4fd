# Host code for what the engine's translator leaves out of system instructions (sandbox/engine/system.py).
#
# Two ways in.  `translate` is asked before each instruction is translated, and puts a call of `check` before those that
# need one, so that translated code without them is what it was.  The others stand in the place of the engine's helpers
# and go on there by a jump: a helper finds the instruction that called it by its return address.
# Rebuild: as --64 -o x.o system.S; objcopy -O binary -j .text x.o system.bin; tests/engine/test_system.py compares.

        .intel_syntax noprefix
        .text

        .set    AT_ECX, 8                  # in CPUX86State
        .set    AT_ESP, 32
        .set    AT_EBP, 40
        .set    AT_EIP, 128
        .set    AT_EFLAGS, 136
        .set    AT_HFLAGS, 176
        .set    AT_SEGMENTS, 184           # selector, base (+8), limit (+16), flags (+20) of ES CS SS DS FS GS, 24 bytes each
        .set    AT_LDT, AT_SEGMENTS + 6*24
        .set    AT_GDT, AT_SEGMENTS + 8*24
        .set    AT_CR0, 424
        .set    AT_CR4, 456
        .set    AT_STARTED, 432            # CR1, which no instruction reaches: EIP of the last INT n
        .set    AT_KEPT, 436            # before an ENTER: whose upper half EBP will have
        .set    AT_DR, 5400
        .set    AT_EFER, 592
        .set    AT_SYSENTER, 4800       # IA32_SYSENTER_CS, ESP (+8), EIP (+16)
        .set    AT_STAR, 4824

        .set    H_PE, 0x80
        .set    H_CPL, 3
        .set    H_CS32, 0x10
        .set    H_SS32, 0x20
        .set    H_BASES, 0x40           # SS, DS or ES does not begin at 0
        .set    F_VM, 0x20000
        .set    F_RF, 0x10000
        .set    F_IF, 0x200
        .set    NO_FS, 1 << 28          # hidden flags of ours: this segment may be null
        .set    NO_GS, 1 << 29
        .set    NO_DATA, 1 << 30        # DS or ES
        .set    NO_ANY, NO_FS | NO_GS | NO_DATA

        .set    CPU_ENGINE, 0x81a8      # in CPUState
        .set    CPU_ENV, 0x128
        .set    ENGINE_TCG, 0x300
        .set    TCG_ENV, 0x98f0
        .set    AT_NEXT, 0x10              # in DisasContextBase: the instruction's linear address
        .set    AT_ENDS, 0x18              # 0: the block goes on, 1: it ends here
        .set    TRANSLATE_INSN, 0x20    # in TranslatorOps

        # the argument of `check`
        .set    REPEATED, 1 << 6        # bits 0 to 5: segments by number, each used by the instruction
        .set    BY_CX, 1 << 7
        .set    ENTERS, 1 << 8          # bits 11 to 15: level, 16 to 31: size
        .set    HALF, 1 << 10           #   with 16-bit operands
        .set    ENTERED, 2 << 8         # behind an ENTER with 16-bit operands or stack
        .set    SMSW, 3 << 8            # bits 16 to 18: register
        .set    RESUMED, 1 << 11        # the first instruction with RF

        .set    PRIVATE, 1 << 12        # refused outside ring 0 by CR4.UMIP

        .set    CR4_RESERVED, ~0x150fff # what CPUID tells of: up to OSXMMEXCPT, UMIP, FSGSBASE, OSXSAVE, SMEP

        .set    DB, 1
        .set    GP, 13
        .set    AC, 17
        .set    UD, 6
        .set    CR0_AM, 0x40000
        .set    F_AC, 0x40000

begin:  .quad   list - begin

        .include "list.S"

        .text   2
list:
        .text   0
        engines raise_exception_ra
        engines raise_exception_err_ra
        engines probe_access
        engines cpu_ldub_code
        engines cpu_ldl_mmuidx_ra
        engines cpu_restore_state
        engines tcg_const_i32
        engines tcg_gen_callN
        engines tcg_temp_free_internal
        engines helper_raise_interrupt
        engines helper_into
        engines helper_load_seg
        engines helper_iret_protected
        engines helper_lret_protected
        engines helper_write_crN
        engines helper_set_dr
        engines helper_get_dr
        engines helper_fxsave
        engines helper_rdpmc
        engines helper_lcall_protected
        engines helper_ljmp_protected
        listed  own, 2, translate
        listed  before, 2, before
        listed  running, 3, running
        listed  held, 2, held
        listed  stored, 2, stored
        listed  dropped, 2, dropped
        listed  dirtied, 2, dirtied
        listed  go_store, 2, invalidate_bytes
        listed  go_drop, 2, invalidate_range
        listed  go_dirty, 2, set_dirty

# -- software interrupts: where they begin -------------------------------------------------------------------------

        helper  raise_interrupt
        mov     eax, [rdi+AT_EIP]
        mov     [rdi+AT_STARTED], eax
        jmp     [rip+e_helper_raise_interrupt]

        helper  into
        mov     eax, [rdi+AT_EIP]
        mov     [rdi+AT_STARTED], eax
        jmp     [rip+e_helper_into]

# -- segments that may have become null ----------------------------------------------------------------------------

        helper  load_seg                # (env, segment, selector)
        test    edx, 0xfffc
        jnz     1f
        mov     eax, NO_FS
        cmp     esi, 4
        je      2f
        mov     eax, NO_GS
        ja      2f
        mov     eax, NO_DATA
2:      or      [rdi+AT_HFLAGS], eax
1:      jmp     [rip+e_helper_load_seg]

        # a return to an outer ring leaves no data segment of an inner one
        .macro  leaves name
        helper  \name
        .irpc   each, 0345
        mov     eax, [rdi+AT_SEGMENTS+24*\each+20]
        not     eax
        test    eax, 0x6000
        jnz     1f
        .endr
        jmp     [rip+e_helper_\name]
1:      or      dword ptr [rdi+AT_HFLAGS], NO_ANY
        jmp     [rip+e_helper_\name]
        .endm
        leaves  iret_protected
        leaves  lret_protected

# -- control and debug registers -----------------------------------------------------------------------------------

        helper  write_crN               # (env, register, value): reserved bits of CR4, and CR0's PG without PE, NW without CD
        cmp     esi, 4
        jne     1f
        test    edx, CR4_RESERVED
        jnz     general
        jmp     [rip+e_helper_write_crN]
1:      test    esi, esi
        jnz     2f
        mov     eax, edx
        and     eax, 0x80000001
        cmp     eax, 0x80000000
        je      general
        mov     eax, edx
        and     eax, 0x60000000
        cmp     eax, 0x20000000
        je      general
2:      jmp     [rip+e_helper_write_crN]
general:
        mov     rcx, [rsp]
        mov     esi, GP
        xor     edx, edx
        jmp     [rip+e_raise_exception_err_ra]

        helper  rdpmc                   # outside ring 0 without CR4.PCE; the engine has no counters
        test    byte ptr [rdi+AT_HFLAGS], 3
        jz      1f
        test    byte ptr [rdi+AT_CR4+1], 1
        jz      general
1:      jmp     [rip+e_helper_rdpmc]

        .macro  guarded name            # DR7.GD: #DB before the access, BD in DR6, and GD is off (SDM 3B, 17.2.4)
        helper  \name
        test    byte ptr [rdi+AT_DR+7*8+1], 0x20
        jnz     detected
        jmp     [rip+e_helper_\name]
        .endm
        guarded set_dr
        guarded get_dr
detected:
        and     byte ptr [rdi+AT_DR+7*8+1], ~0x20
        or      byte ptr [rdi+AT_DR+6*8+1], 0x20
        mov     rdx, [rsp]
        mov     esi, DB
        jmp     [rip+e_raise_exception_ra]

# -- SYSENTER and SYSCALL, which the engine leaves to hooks of its user -----------------------------------------------

        helper  sysenter                # (env, length): SDM 2B, SYSENTER
        mov     eax, [rdi+AT_SYSENTER]
        test    eax, 0xfffc
        jz      general
        call    flat_ring_0
        mov     eax, [rdi+AT_SYSENTER+8]
        mov     [rdi+AT_ESP], rax
        mov     eax, [rdi+AT_SYSENTER+16]
        mov     [rdi+AT_EIP], rax
        ret

        helper  syscall                 # (env, length): APM 3, SYSCALL, in legacy mode
        test    byte ptr [rdi+AT_EFER], 1
        jz      1f
        mov     eax, [rdi+AT_EIP]
        add     eax, esi
        mov     [rdi+AT_ECX], rax
        movzx   eax, word ptr [rdi+AT_STAR+4]
        call    flat_ring_0
        mov     eax, [rdi+AT_STAR]
        mov     [rdi+AT_EIP], rax
        ret
1:      mov     rcx, [rsp]
        mov     esi, UD
        xor     edx, edx
        jmp     [rip+e_raise_exception_err_ra]

# eax: the selector of CS, before SS's: both flat, of 32 bits and ring 0; interrupts, V86 and RF are off
flat_ring_0:
        and     eax, 0xfffc
        .macro  flat segment, type
        mov     [rdi+AT_SEGMENTS+24*\segment], eax
        mov     qword ptr [rdi+AT_SEGMENTS+24*\segment+8], 0
        mov     dword ptr [rdi+AT_SEGMENTS+24*\segment+16], -1
        mov     dword ptr [rdi+AT_SEGMENTS+24*\segment+20], 0xc09000 | \type << 8
        .endm
        flat    1, 0xb                  # CS: code that can be read
        add     eax, 8
        flat    2, 3                    # SS: data that can be written
        and     dword ptr [rdi+AT_EFLAGS], ~(F_VM | F_RF | F_IF)
        mov     eax, [rdi+AT_HFLAGS]
        and     eax, ~(H_CPL | H_BASES | F_VM)
        or      eax, H_CS32 | H_SS32
        mov     rcx, [rdi+AT_SEGMENTS+24*0+8]
        or      rcx, [rdi+AT_SEGMENTS+24*3+8]
        jz      1f
        or      eax, H_BASES
1:      mov     [rdi+AT_HFLAGS], eax
        ret

# -- FXSAVE: nothing is stored where a part cannot be --------------------------------------------------------------

        helper  fxsave                  # (env, address)
        test    esi, 15
        jnz     1f
        push    rbx
        push    r12
        push    r13
        mov     rbx, rdi
        mov     r12, rsi
        mov     r13, [rsp+24]
        lea     esi, [r12+511]          # the last byte first, as seen on an AMD host
        mov     ecx, 1
        call    writable
        mov     esi, r12d
        mov     ecx, 1
        call    writable
        mov     rdi, rbx
        mov     rsi, r12
        pop     r13
        pop     r12
        pop     rbx
1:      jmp     [rip+e_helper_fxsave]

# rbx: env, rsi: linear address, ecx: bytes, r13: where the helper returns to
writable:
        push    rbp
        push    r14
        sub     rsp, 8
        mov     r14d, esi
        lea     ebp, [rsi+rcx-1]
        call    1f
        mov     eax, r14d
        xor     eax, ebp
        test    eax, ~0xfff
        jz      2f
        mov     r14d, ebp
        and     r14d, ~0xfff
        call    1f
2:      add     rsp, 8
        pop     r14
        pop     rbp
        ret
1:      sub     rsp, 8
        mov     eax, [rbx+AT_HFLAGS]
        and     eax, 3
        xor     r8d, r8d
        cmp     eax, 3
        setne   r8b
        inc     r8d                     # the engine's TLB of user accesses, or of the kernel's without SMAP
        mov     rdi, rbx
        mov     esi, r14d
        mov     edx, 1
        mov     ecx, 1                  # a store
        mov     r9, r13
        call    [rip+e_probe_access]
        add     rsp, 8
        ret

# -- far calls and jumps through 16-bit gates: their offsets have 16 bits ------------------------------------------

        .macro  far name                # (env, selector, offset, ...)
        helper  \name
        test    esi, 0xfffc
        jz      1f
        push    rbx
        push    rdi
        push    rsi
        push    rdx
        push    rcx
        push    r8
        sub     rsp, 8
        mov     rcx, [rsp+56]
        .ifc    \name, lcall_protected
        call    pushed
        mov     rdi, [rsp+40]
        mov     rsi, [rsp+32]
        mov     rcx, [rsp+56]
        .endif
        call    halved
        lea     rbx, [rip+e_helper_\name]
        je      through
        add     rsp, 8
        pop     r8
        pop     rcx
        pop     rdx
        pop     rsi
        pop     rdi
        pop     rbx
1:      jmp     [rip+e_helper_\name]
        .endm
        far     lcall_protected
        far     ljmp_protected

# rdi: env, esi: selector, rcx: where the helper returns to.  ZF: it names a 16-bit call gate
halved: mov     eax, esi
        and     eax, ~7
        lea     rdx, [rdi+AT_GDT]
        test    esi, 4
        jz      1f
        lea     rdx, [rdi+AT_LDT]
1:      lea     r8d, [rax+7]
        cmp     r8d, [rdx+16]
        ja      2f                      # and ZF is clear
        mov     esi, [rdx+8]
        lea     esi, [rsi+rax+4]
        mov     edx, 2                  # the engine's TLB of the kernel's accesses
        sub     rsp, 8
        call    [rip+e_cpu_ldl_mmuidx_ra]
        add     rsp, 8
        and     eax, 0x1f00
        cmp     eax, 0x400
2:      ret

# A far call of ring 3 to a code segment that it may call pushes as a program's stores, which the engine does as the
# supervisor.  rdi: env, esi: selector, rcx: where the helper returns to; the size of operands is where `far` has it
pushed: mov     eax, [rdi+AT_HFLAGS]
        and     eax, 3
        cmp     eax, 3
        jne     3f
        push    r12
        push    r13
        push    r14
        mov     rbx, rdi
        mov     r13, rcx
        mov     r12d, [rsp+32+16]       # 1 for 32 bits
        lea     r12d, [r12*2+2]
        mov     eax, esi
        and     eax, ~7
        lea     rdx, [rdi+AT_GDT]
        test    esi, 4
        jz      1f
        lea     rdx, [rdi+AT_LDT]
1:      lea     r8d, [rax+7]
        cmp     r8d, [rdx+16]
        ja      2f
        mov     esi, [rdx+8]
        lea     esi, [rsi+rax+4]
        mov     edx, 2
        call    [rip+e_cpu_ldl_mmuidx_ra]
        mov     ecx, eax
        and     ecx, 0x9800             # code that is present
        cmp     ecx, 0x9800
        jne     2f
        test    eax, 0x400              # conforming, or of ring 3
        jnz     1f
        and     eax, 0x6000
        cmp     eax, 0x6000
        jne     2f
1:      mov     r14d, [rbx+AT_ESP]
        .rept   2
        sub     r14d, r12d
        mov     esi, r14d
        mov     ecx, r12d
        lea     r8d, [r12-1]
        call    on_stack
        .endr
2:      pop     r14
        pop     r13
        pop     r12
3:      ret

# What faults inside has a state to go back to: it is restored before, for the helper cannot find its caller.
through:
        mov     rax, [rip+running]
        mov     rax, [rax]
        mov     rdi, [rax+104]          # HookPad.cpu
        mov     rsi, [rsp+56]
        mov     edx, 1
        call    [rip+e_cpu_restore_state]
        mov     rdi, [rsp+40]
        mov     rsi, [rsp+32]
        mov     rdx, [rsp+24]
        mov     rcx, [rsp+16]
        mov     r8, [rsp+8]
        call    [rbx]
        mov     rdi, [rsp+40]
        movzx   eax, word ptr [rdi+AT_EIP]
        mov     [rdi+AT_EIP], rax
        mov     rbx, [rsp+48]
        add     rsp, 56
        ret

# -- before an instruction -----------------------------------------------------------------------------------------

        helper  vmload                  # check(env, what)
        mov     eax, esi
        and     eax, 0x300
        jnz     4f
        test    esi, RESUMED
        jnz     8f
        test    esi, PRIVATE
        jz      2f
        test    byte ptr [rdi+AT_CR4+1], 8
        jnz     general
2:
        test    esi, REPEATED
        jz      1f
        mov     eax, [rdi+AT_ECX]
        test    esi, BY_CX
        jz      2f
        movzx   eax, ax
2:      test    eax, eax
        jz      9f
1:      test    byte ptr [rdi+AT_HFLAGS], H_PE
        jz      9f
        test    dword ptr [rdi+AT_EFLAGS], F_VM
        jnz     9f
        .irpc   each, 0345
        test    esi, 1 << \each
        jz      3f
        test    byte ptr [rdi+AT_SEGMENTS+24*\each+21], 0x80
        jz      general
3:
        .endr
        mov     eax, [rdi+AT_HFLAGS]       # what was said of them may no longer hold
        and     eax, ~NO_ANY
        test    byte ptr [rdi+AT_SEGMENTS+24*4+21], 0x80
        jnz     5f
        or      eax, NO_FS
5:      test    byte ptr [rdi+AT_SEGMENTS+24*5+21], 0x80
        jnz     6f
        or      eax, NO_GS
6:      mov     cl, [rdi+AT_SEGMENTS+24*0+21]
        and     cl, [rdi+AT_SEGMENTS+24*3+21]
        js      7f
        or      eax, NO_DATA
7:      mov     [rdi+AT_HFLAGS], eax
9:      ret
8:      and     dword ptr [rdi+AT_EFLAGS], ~F_RF
        ret
4:      cmp     eax, ENTERED
        je      entered
        ja      smsw

# ENTER: what its stores, and one at the final ESP, would raise comes before anything has changed (SDM 2A, ENTER)
        push    rbx
        push    r12
        push    r13
        mov     rbx, rdi
        mov     r12d, esi
        mov     r13, [rsp+24]
        mov     eax, [rbx+AT_ESP]       # EBP becomes ESP all but for its lower half, or keeps the upper one
        test    r12d, HALF
        jz      1f
        mov     eax, [rbx+AT_EBP]
1:      mov     [rbx+AT_KEPT], eax
        push    rbp
        push    r14
        mov     ebp, r12d
        shr     ebp, 11
        and     ebp, 31
        inc     ebp                     # stores left
        mov     r14d, [rbx+AT_ESP]
1:      mov     ecx, 4
        test    r12d, HALF
        jz      2f
        mov     ecx, 2
2:      sub     r14d, ecx
        mov     esi, r14d
        lea     r8d, [rcx-1]
        call    on_stack
        dec     ebp
        jnz     1b
        mov     r8d, 3
        test    r12d, HALF
        jz      2f
        mov     r8d, 1
2:      shr     r12d, 16
        mov     esi, r14d
        sub     esi, r12d
        mov     ecx, 1
        call    on_stack
        pop     r14
        pop     rbp
        pop     r13
        pop     r12
        pop     rbx
        ret
# esi: offset, ecx: bytes, r8d: bits of the address that are 0 where it is aligned: #AC (SDM 3A, 6.15) before #PF
on_stack:
        test    byte ptr [rbx+AT_HFLAGS], H_SS32
        jnz     1f
        movzx   esi, si
1:      add     esi, [rbx+AT_SEGMENTS+24*2+8]
        sub     rsp, 8
        test    esi, r8d
        jz      1f
        test    dword ptr [rbx+AT_CR0], CR0_AM
        jz      1f
        test    dword ptr [rbx+AT_EFLAGS], F_AC
        jz      1f
        mov     eax, [rbx+AT_HFLAGS]
        not     eax
        test    eax, 3
        jz      2f
1:      call    writable
        add     rsp, 8
        ret
2:      mov     rdi, rbx
        mov     esi, AC
        xor     edx, edx
        mov     rcx, r13
        call    [rip+e_raise_exception_err_ra]

entered:
        mov     eax, [rdi+AT_KEPT]
        mov     ecx, [rdi+AT_EBP]
        mov     ax, cx
        mov     [rdi+AT_EBP], rax
        ret

smsw:   test    byte ptr [rdi+AT_CR4+1], 8
        jz      1f
        test    byte ptr [rdi+AT_HFLAGS], 3
        jnz     general
1:      shr     esi, 16
        mov     eax, [rdi+AT_CR0]
        mov     cx, [rdi+rsi*8]
        mov     ax, cx
        mov     [rdi+rsi*8], rax        # the low half is the instruction's own matter
        ret

# -- repeated string stores that overwrite themselves --------------------------------------------------------------

# A processor fetches such an instruction once and repeats what it has (SDM 3A, 11.6, says nothing of it; seen on an AMD
# host).  The engine would translate what was stored.  So blocks stay while an instruction stores into itself, the run ends
# at its next iteration, and Python goes on until it is through and drops them (Cpu._overwriting).
# The three stand behind the links invalidate_bytes, invalidate_range and set_dirty of stubs.S.

        .set    HELD, 0                 # END of the block, or 0
        .set    SKIPS, 8                # this store's blocks stay
        .set    REPS, 16                # by the last byte of its end: end and start of such an instruction, as translated
        .set    PAD_FIRST, 56           # in HookPad
        .set    PAD_END, 64
        .set    PAD_FUEL, 72
        .set    PAD_CPU, 104
        .set    PAD_ENV, 112
        .set    AT_EDI, 56
        .set    AT_ES_BASE, AT_SEGMENTS + 8
        .set    AT_CS_BASE, AT_SEGMENTS + 24 + 8

        .p2align 3
held:   .quad   0                       # address of the words
go_store: .quad 0
go_drop: .quad  0
go_dirty: .quad 0

dropped:
        mov     rax, [rip+held]
        cmp     qword ptr [rax+SKIPS], 0
        je      1f
        ret
1:      jmp     [rip+go_drop]
dirtied:
        mov     rax, [rip+held]
        cmp     qword ptr [rax+SKIPS], 0
        je      1f
        mov     qword ptr [rax+SKIPS], 0
        ret
1:      jmp     [rip+go_dirty]

stored: # (engine, pages, ram address, bytes, where the store returns to)
        mov     rax, [rip+running]
        mov     rax, [rax]
        test    rax, rax
        jz      9f
        cmp     qword ptr [rax+PAD_FIRST], -1
        je      9f
        push    rbx
        push    rbp
        push    r12
        push    r13
        push    rdi
        push    rsi
        push    rdx
        push    rcx
        push    r8
        mov     rbx, rax
        mov     rbp, [rax+PAD_END]
        mov     rdx, [rip+held]
        cmp     [rdx+HELD], rbp
        je      7f
        movzx   eax, bpl
        shl     eax, 4
        cmp     [rdx+rax+REPS], rbp
        jne     8f
        mov     r13, [rdx+rax+REPS+8]   # the instruction
        mov     rdi, [rbx+PAD_CPU]
        mov     rsi, [rsp]
        xor     edx, edx
        call    [rip+e_cpu_restore_state]
        mov     rax, [rbx+PAD_ENV]
        mov     ecx, [rax+AT_EIP]
        add     rcx, [rax+AT_CS_BASE]
        cmp     rcx, r13                # this very one stores
        jne     8f
        mov     ecx, [rax+AT_EDI]
        add     ecx, [rax+AT_ES_BASE]   # what it stores to
        cmp     ecx, ebp
        jae     8f
        add     ecx, 4                  # the engine stores some double words byte by byte
        cmp     ecx, r13d
        jbe     8f
        mov     rdx, [rip+held]
        mov     [rdx+HELD], rbp
7:      mov     qword ptr [rdx+SKIPS], 1
        mov     qword ptr [rbx+PAD_FUEL], -1
        add     rsp, 40
        pop     r13
        pop     r12
        pop     rbp
        pop     rbx
        ret
8:      pop     r8
        pop     rcx
        pop     rdx
        pop     rsi
        pop     rdi
        pop     r13
        pop     r12
        pop     rbp
        pop     rbx
9:      jmp     [rip+go_store]

# -- translation ---------------------------------------------------------------------------------------------------

        .p2align 3
before: .quad   0                       # the translate_insn that was there
running: .quad  0                       # address of the word with the running CPU's pad
one:    .long   0x0f0f0f0f, 0x0f0f0f0f, 0x00000000, 0x00000a0c, 0x0000dfff, 0x00000000, 0xff0f00f3, 0xc0c00000  # opcodes with ModRM and a memory operand (SDM 2D, table A-2)
two:    .long   0x00ff000f, 0x0500ff00, 0xffffffff, 0xff7fffff, 0xffff0000, 0xfffff838, 0xffff00ff, 0xffffffff  # behind 0F (table A-3)

        .p2align 4
# void own(base, cpu): in the place of the engine's translate_insn
own:    push    rbx
        push    rbp
        push    r12
        push    r13
        push    r14
        push    r15
        sub     rsp, 40                 # [rsp]: the next byte's linear address, [rsp+8]: 66 67 REP, [rsp+12]: hidden flags
        mov     rbx, rdi
        mov     rbp, rsi
        xor     r12d, r12d              # what to check before
        mov     r13d, -1                # the segment that a prefix names
        xor     r14d, r14d              # not 0: the block ends behind it
        xor     r15d, r15d              # what to do behind
        mov     rax, [rbx+AT_NEXT]
        mov     [rsp], rax
        mov     dword ptr [rsp+8], 0
        mov     rax, [rbp+CPU_ENV]
        mov     eax, [rax+AT_HFLAGS]
        mov     [rsp+12], eax
        test    eax, 0x10               # CS32
        jnz     1f
        mov     dword ptr [rsp+8], 3
1:      call    next
        cmp     al, 0x66
        je      2f
        cmp     al, 0x67
        je      3f
        mov     ecx, eax
        and     ecx, 0xfe
        cmp     ecx, 0xf2
        je      4f
        cmp     ecx, 0x64
        je      5f
        cmp     al, 0xf0
        je      6f
        mov     ecx, eax
        and     ecx, 0xe7
        cmp     ecx, 0x26
        jne     opcode
        mov     r13d, eax               # 26 2E 36 3E: ES CS SS DS
        shr     r13d, 3
        and     r13d, 3
        jmp     6f
2:      mov     ecx, 1
        jmp     7f
3:      mov     ecx, 2
7:      mov     eax, [rsp+12]           # said twice it is said once
        shr     eax, 4
        and     eax, 1
        neg     eax
        and     eax, ecx
        not     ecx
        and     [rsp+8], ecx
        or      [rsp+8], eax
        jmp     6f
4:      or      dword ptr [rsp+8], 4
        jmp     6f
5:      lea     r13d, [rax-0x60]        # FS is 4, GS is 5
6:      mov     rcx, [rsp]
        sub     rcx, [rbx+AT_NEXT]
        cmp     ecx, 14
        jbe     1b
        jmp     emit

opcode: cmp     al, 0x0f
        je      escape
        cmp     al, 0xc8
        je      enter
        cmp     al, 0x8e
        je      to_segment
        test    byte ptr [rsp+8], 4
        jnz     repeated
plain:  test    dword ptr [rsp+12], NO_ANY
        jz      emit
        lea     rcx, [rip+one]
        bt      [rcx], eax
        jc      modrm
        mov     ecx, eax
        and     ecx, 0xfc
        cmp     ecx, 0xa0               # MOV with an offset
        je      source
        cmp     al, 0xd7                # XLAT
        je      source
        cmp     ecx, 0xa4               # MOVS, CMPS
        je      both
        cmp     ecx, 0x6c               # INS, OUTS
        je      1f
        cmp     al, 0xaa
        jb      emit
        cmp     al, 0xaf
        ja      emit
        mov     ecx, eax
        and     ecx, 0xfe
        cmp     ecx, 0xac               # LODS
        je      2f
        jmp     3f                      # STOS, SCAS
1:      test    al, 2
        jz      3f
2:      call    by_count
        jmp     source
both:   call    by_count
        or      r12d, 1
        jmp     source
3:      call    by_count
        or      r12d, 1
        jmp     known

repeated:                               # STOS, MOVS, INS
        mov     ecx, eax
        and     ecx, 0xfe
        cmp     ecx, 0xaa
        je      1f
        cmp     ecx, 0xa4
        je      1f
        cmp     ecx, 0x6c
        jne     plain
1:      mov     rcx, [rsp]
        movzx   edx, cl
        shl     edx, 4
        add     rdx, [rip+held]
        mov     [rdx+REPS], rcx
        mov     rcx, [rbx+AT_NEXT]
        mov     [rdx+REPS+8], rcx
        jmp     plain

by_count:
        test    byte ptr [rsp+8+8], 4
        jz      1f
        or      r12d, REPEATED
        test    byte ptr [rsp+8+8], 2
        jz      1f
        or      r12d, BY_CX
1:      ret

source: cmp     r13d, -1
        jne     used
        mov     r13d, 3
used:   mov     eax, 1
        mov     ecx, r13d
        shl     eax, cl
        or      r12d, eax
known:  # only those that may be null
        mov     eax, [rsp+12]
        mov     ecx, 0x3f
        test    eax, NO_FS
        jnz     1f
        and     ecx, ~0x10
1:      test    eax, NO_GS
        jnz     1f
        and     ecx, ~0x20
1:      test    eax, NO_DATA
        jnz     1f
        and     ecx, ~9
1:      and     ecx, ~6
        test    r12d, ecx
        jnz     emit
        and     r12d, PRIVATE
        jmp     emit

enter:  call    next
        mov     r12d, eax
        call    next
        shl     eax, 8
        or      r12d, eax
        shl     r12d, 16
        call    next
        and     eax, 31
        shl     eax, 11
        or      r12d, eax
        or      r12d, ENTERS
        test    byte ptr [rsp+12], H_SS32
        jnz     1f
        mov     r15d, ENTERED
1:      test    byte ptr [rsp+8], 1
        jz      emit
        or      r12d, HALF
        mov     r15d, ENTERED
        jmp     emit

to_segment:
        call    next
        mov     ecx, eax
        and     ecx, 0x30
        cmp     ecx, 0x20               # FS, GS
        sete    r14b
        test    dword ptr [rsp+12], NO_ANY
        jz      emit
        jmp     operand

escape: call    next
        cmp     al, 1
        je      group7
        test    al, al
        jz      group6
        mov     ecx, eax
        and     ecx, 0xf7
        cmp     ecx, 0xa1               # POP FS, POP GS
        je      1f
        mov     ecx, eax
        and     ecx, 0xfe
        cmp     ecx, 0xb4               # LFS, LGS
        jne     2f
1:      mov     r14d, 1
2:      test    dword ptr [rsp+12], NO_ANY
        jz      emit
        cmp     al, 0xf7
        je      masked
        lea     rcx, [rip+two]
        bt      [rcx], eax
        jnc     emit
        cmp     al, 0x38
        je      3f
        cmp     al, 0x3a
        jne     modrm
3:      call    next
        jmp     modrm

masked: call    next                    # MASKMOVQ stores at DS:EDI
        cmp     al, 0xc0
        jb      operand
        jmp     source

group6: call    next
        mov     ecx, eax
        and     ecx, 0x38
        cmp     ecx, 8                  # SLDT, STR, which are #UD in V86
        ja      1f
        test    dword ptr [rsp+12], F_VM
        jnz     1f
        call    private
        jmp     1f

private:                                # UMIP: outside ring 0, whose code is translated apart
        test    byte ptr [rsp+8+12], 3
        jz      2f
        or      r12d, PRIVATE
2:      ret

group7: call    next
        mov     ecx, eax
        and     ecx, 0x38
        cmp     ecx, 0x38               # INVLPG
        je      emit
        cmp     ecx, 0x20
        je      4f
        cmp     ecx, 8                  # SGDT, SIDT
        ja      1f
        cmp     al, 0xc0
        jae     1f
        call    private
        jmp     1f
4:      call    private                 # SMSW
        cmp     al, 0xc0
        jb      1f
        test    byte ptr [rsp+8], 1
        jnz     emit
        and     eax, 7
        shl     eax, 16
        lea     r12d, [rax+SMSW]
        jmp     emit
1:      test    dword ptr [rsp+12], NO_ANY
        jz      emit
        jmp     operand

modrm:  call    next
operand: # al: ModRM.  By default SS for ESP and EBP, DS for the others (SDM 1, table 3-5)
        cmp     al, 0xc0
        jae     emit
        cmp     r13d, -1
        jne     used
        mov     r13d, 3
        mov     edx, eax
        and     eax, 7
        shr     edx, 6
        test    byte ptr [rsp+8], 2
        jnz     half
        cmp     al, 4
        jne     1f
        push    rdx
        sub     rsp, 8
        call    next_pushed
        add     rsp, 8
        pop     rdx
        and     eax, 7
        cmp     al, 4
        je      stack
1:      cmp     al, 5
        jne     used
        test    edx, edx
        jz      used
stack:  mov     r13d, 2
        jmp     used
half:   cmp     al, 2
        je      stack
        cmp     al, 3
        je      stack
        cmp     al, 6
        jne     used
        test    edx, edx
        jz      used
        jmp     stack

# al, and eax: the next byte of the instruction; where it is not there the translator would fault on it as well
next_pushed:
        lea     r8, [rsp+8+16]
        jmp     1f
next:   lea     r8, [rsp+8]
1:      sub     rsp, 8
        mov     rsi, [r8]
        inc     qword ptr [r8]
        mov     esi, esi
        mov     rdi, [rbp+CPU_ENV]
        call    [rip+e_cpu_ldub_code]
        movzx   eax, al
        add     rsp, 8
        ret

emit:   mov     rax, [rbp+CPU_ENV]
        test    dword ptr [rax+AT_EFLAGS], F_RF
        jz      1f
        mov     r14d, 1                 # RF is for one instruction
        mov     esi, RESUMED
        call    call_check
1:      test    r12d, r12d
        jz      1f
        mov     esi, r12d
        call    call_check
1:      mov     rdi, rbx
        mov     rsi, rbp
        call    [rip+before]
        test    r15d, r15d
        jz      1f
        mov     esi, r15d
        call    call_check
1:      test    r14d, r14d
        jz      1f
        cmp     dword ptr [rbx+AT_ENDS], 0
        jne     1f
        mov     dword ptr [rbx+AT_ENDS], 1
1:      add     rsp, 40
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     rbp
        pop     rbx
        ret

# esi: what.  Makes the translation call check(env, what) here
call_check:
        push    r12
        push    r13
        sub     rsp, 24
        mov     rax, [rbp+CPU_ENGINE]
        mov     r12, [rax+ENGINE_TCG]
        mov     rdi, r12
        call    [rip+e_tcg_const_i32]
        lea     r13, [r12+rax]
        mov     rax, [r12+TCG_ENV]
        add     rax, r12
        mov     [rsp], rax
        mov     [rsp+8], r13
        mov     rdi, r12
        lea     rsi, [rip+h_vmload]
        xor     edx, edx
        mov     ecx, 2
        mov     r8, rsp
        call    [rip+e_tcg_gen_callN]
        mov     rdi, r12
        mov     rsi, r13
        call    [rip+e_tcg_temp_free_internal]
        add     rsp, 24
        pop     r13
        pop     r12
        ret

        .text   2
        .long   0
