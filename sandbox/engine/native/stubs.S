# Host code for hooks that never enter Python.  x86-64, System V calling convention.
#
# The bytes are kept in ../stubs.py; tests/engine/test_stubs.py assembles this file and compares.
# Each stub gets one HookPad, as user data of a hook or as its argument:

        .intel_syntax noprefix
        .text

        .set    BLOCKS,         0       # counted blocks left, signed
        .set    STOP,           8       # uc_emu_stop
        .set    SAVE,           16      # uc_context_save
        .set    CONTEXT,        24      # where the state comes from and goes to
        .set    VECTOR,         32      # of the captured exception
        .set    REASON,         36      # why the run stopped
        .set    STEPS,          40      # instructions left, signed
        .set    SKIP,           48      # a breakpoint's address to pass once
        .set    FIRST,          56      # the block entered last: its linear address
        .set    END,            64      # and the address behind it
        .set    FUEL,           72      # uncounted blocks left in this run, signed; at 0 it ends at the next block
        .set    ENGINE,         80      # the engine's handle
        .set    RESTORE,        88      # uc_context_restore
        .set    START,          96      # uc_emu_start
        .set    CPU,            104     # the engine's CPUState
        .set    ENV,            112     # and its CPUX86State
        .set    READ_PORT,      120     # Python's answer to IN
        .set    WRITE_PORT,     128     # and to OUT
        .set    REFUSED,        136     # the instruction shall raise #GP instead
        .set    ERROR,          144     # what uc_emu_start returned
        .set    BEHIND,         152     # END for the first block of the next run
        .set    STOPPING,       160     # a device asked to come back at the next counted block
        .set    NUMBER,         168     # the CPU's, in the TLB feed (tlbfeed.S)
        .set    SHARE,          176     # FUEL at the start of a run
        .set    MODE,           184     # what the last block was run in (watch.S)
        .set    PASSED,         192     # the instruction at which `fetch` stopped last (watch.S)
        .set    AHEAD,          200     # a context to be run before this one, up to its HLT; 0 for none
        .set    AHEAD_BLOCKS,   208     # and its BLOCKS; what is left of them behind it
        .set    STOPS_AT_CR3,   216     # not 0: stop behind loads of CR3 (watch.S)

        .set    TRAP,           1
        .set    SPENT,          2
        .set    STEPPED,        3
        .set    BREAKPOINT,     4
        .set    ABORTED,        5
        .set    FETCH,          6
        .set    PAUSED,         7

        .set    LONGEST_BLOCK,  128     # instructions

        .set    AT_CR0,         424     # in CPUX86State
        .set    AT_CR3,         448
        .set    AT_CR4,         456
        .set    PG,             0x80000000
        .set    CD_NW_PG,       0xE0000000
        .set    PAE,            0x20
        .set    PAE_PGE_PSE,    0xB0
        .set    PDPTE_RESERVED, 0xFFFFFF00000001E6

        # the saved context: a header, then the engine's CPUX86State
        .set    STATE,          40
        .set    PC,             STATE + 128
        .set    CODE_BASE,      STATE + 216
        .set    SOFTWARE,       STATE + 5388
        .set    DEBUG7,         STATE + 5456
        .set    BREAKPOINTS,    STATE + 5464
        .set    IN_FLIGHT,      STATE + 5496

# void block(uc, address, size, pad)
#
# Counts a block unless control fell through to it from the block before, however the translator cut them.
# A block that starts inside the one before and ends earlier is that one's store instruction, executed again
# alone because it changed its own block: not counted, its instruction is refunded, its breakpoint was passed before.
block:
        mov     r8d, edx
        mov     rax, [rcx+END]
        mov     r9, [rcx+FIRST]
        add     r8, rsi
        mov     [rcx+FIRST], rsi
        mov     [rcx+END], r8
        cmp     rax, rsi
        je      2f
        cmp     rsi, r9
        jb      1f
        cmp     r8, rax
        jb      3f
1:      sub     qword ptr [rcx+BLOCKS], 1
        js      4f
        cmp     qword ptr [rcx+FUEL], 0
        jle     5f
        ret
3:      add     qword ptr [rcx+STEPS], 1
        mov     [rcx+SKIP], rsi
2:      sub     qword ptr [rcx+FUEL], 1
        js      5f
        ret
4:      mov     dword ptr [rcx+REASON], SPENT
        jmp     [rcx+STOP]
5:      mov     dword ptr [rcx+REASON], PAUSED
        jmp     [rcx+STOP]

        .balign 16
# void steps(uc, address, size, pad): count one instruction, stop when none are left
steps:
        sub     qword ptr [rcx+STEPS], 1
        js      1f
        ret
1:      mov     dword ptr [rcx+REASON], STEPPED
        jmp     [rcx+STOP]

        .balign 16
# void breakpoint(uc, address, size, pad)
breakpoint:
        cmp     rsi, [rcx+SKIP]
        jne     1f
        mov     qword ptr [rcx+SKIP], -1
        ret
1:      mov     dword ptr [rcx+REASON], BREAKPOINT
        jmp     [rcx+STOP]

        .balign 16
# void interrupt(uc, vector, pad)
interrupt:
        mov     [rdx+VECTOR], esi
        mov     dword ptr [rdx+REASON], TRAP
        jmp     [rdx+STOP]

        .balign 16
# int enter(pad): put the context into the engine, run, take the state back.  0: an exception was captured, and
# nothing else is to be said.
#
# A page fault whose CS:EIP is outside the block entered last was raised while a block was being translated: its EIP
# need not be the instruction's.
enter:
        cmp     qword ptr [rdi+AHEAD], 0
        jne     enter_behind
enter_one:
        push    rbx
        push    r12
        sub     rsp, 8
        mov     rbx, rdi
        mov     r12, [rbx+CONTEXT]
        mov     rdi, [rbx+ENGINE]
        mov     rsi, r12
        call    [rbx+RESTORE]
        mov     rax, -1
        mov     rcx, [rbx+BEHIND]
        mov     [rbx+FIRST], rax
        mov     [rbx+BEHIND], rax
        mov     [rbx+END], rcx
        inc     rax
        mov     [rbx+REFUSED], rax
        mov     [rbx+STOPPING], rax
        mov     rax, [rbx+SHARE]
        mov     [rbx+FUEL], rax
        mov     dword ptr [rbx+REASON], 0
        mov     esi, [r12+DEBUG7]
        test    esi, 0xff
        jz      1f
        mov     rdi, [rbx+ENV]
        mov     qword ptr [rdi+DEBUG7-STATE], 0x400
        call    [rip+set_debug7]
1:      mov     [rip+running], rbx
        fnclex                          # what x87.S finds is the guest's
        ldmxcsr [rip+clean]
        mov     rdi, [rbx+ENGINE]
        mov     rsi, [r12+PC]
        xor     edx, edx
        xor     ecx, ecx
        xor     r8d, r8d
        call    [rbx+START]
        mov     qword ptr [rip+running], 0
        mov     eax, eax
        mov     [rbx+ERROR], rax
        mov     rdi, [rbx+ENGINE]
        mov     rsi, r12
        call    [rbx+SAVE]
        mov     dword ptr [r12+IN_FLIGHT], -1
        cmp     dword ptr [rbx+REASON], TRAP
        jne     2f
        cmp     dword ptr [rbx+VECTOR], 14
        jne     2f
        cmp     dword ptr [r12+SOFTWARE], 0
        jne     2f
        mov     rax, [r12+PC]
        add     rax, [r12+CODE_BASE]
        cmp     rax, [rbx+FIRST]
        jb      4f
        cmp     rax, [rbx+END]
        jb      2f
4:      mov     dword ptr [rbx+REASON], FETCH
2:      mov     rax, [r12+BREAKPOINTS]
        or      rax, [r12+BREAKPOINTS+8]
        or      rax, [r12+BREAKPOINTS+16]
        or      rax, [r12+BREAKPOINTS+24]
        jz      3f
        mov     rdi, [rbx+CPU]
        mov     esi, 0x30
        call    [rip+remove_breakpoints]
        mov     rdx, [rbx+ENV]
        lea     rcx, [r12+BREAKPOINTS]
        add     rdx, BREAKPOINTS-STATE
        xor     eax, eax
        mov     [rcx], rax
        mov     [rcx+8], rax
        mov     [rcx+16], rax
        mov     [rcx+24], rax
        mov     [rdx], rax
        mov     [rdx+8], rax
        mov     [rdx+16], rax
        mov     [rdx+24], rax
3:      mov     eax, [rbx+REASON]
        sub     eax, TRAP
        or      eax, [rbx+ERROR]
        or      eax, [rbx+REFUSED]
        add     rsp, 8
        pop     r12
        pop     rbx
        ret

        .balign 16
# uint32_t read_port(uc, port, size, pad): Python answers; a refusal becomes #GP at the instruction
read_port:
        push    rbx
        mov     rbx, rcx
        call    [rbx+READ_PORT]
        fnclex
        ldmxcsr [rip+clean]
        cmp     dword ptr [rbx+REFUSED], 0
        jne     refuse
        pop     rbx
        ret

        .balign 16
# void write_port(uc, port, size, value, pad)
write_port:
        push    rbx
        mov     rbx, r8
        call    [rbx+WRITE_PORT]
        fnclex
        ldmxcsr [rip+clean]
        cmp     dword ptr [rbx+REFUSED], 0
        jne     refuse
        pop     rbx
        ret
refuse: mov     rdi, [rbx+ENV]
        mov     esi, 13
        xor     edx, edx
        call    [rip+raise_error]       # unwinds to the engine's loop

        .balign 16
# void aborted(): in the place of the engine's abort() and exit().  While a CPU runs, leave through the engine's
# own way out, so that the process lives and the instruction can be named.
aborted:
        mov     rbx, [rip+running]
        test    rbx, rbx
        jz      1f
        and     rsp, -16
        mov     dword ptr [rbx+REASON], ABORTED
        mov     rdi, [rbx+ENGINE]
        call    [rbx+STOP]
        mov     rdi, [rbx+CPU]
        call    [rip+leave_loop]        # unwinds to the engine's loop
1:      jmp     [rip+real_abort]

        .balign 16
# void divide_error(signal, siginfo, ucontext): SIGFPE from the engine's own idiv.
#
# INT_MIN / -1 overflows the engine's host division.  Giving the quotient that the division would have had makes
# the engine's own range check raise #DE at the guest's instruction.  Any other SIGFPE is passed on.
divide_error:
        mov     rax, [rdx+168]
        cmp     rax, [rip+library_first]
        jb      8f
        cmp     rax, [rip+library_end]
        jae     8f
        xor     r11d, r11d
        movzx   ecx, byte ptr [rax]
        mov     r9d, ecx
        and     r9d, 0xf0
        cmp     r9d, 0x40
        jne     1f
        mov     r11d, ecx
        inc     rax
        movzx   ecx, byte ptr [rax]
1:      cmp     ecx, 0xf7
        jne     8f
        movzx   ecx, byte ptr [rax+1]
        mov     r9d, ecx
        and     r9d, 0x38
        cmp     r9d, 0x38
        jne     8f
        add     rax, 2
        mov     r9d, ecx
        shr     r9d, 6
        cmp     r9d, 3
        je      6f
        and     ecx, 7
        cmp     ecx, 4
        jne     2f
        movzx   ecx, byte ptr [rax]
        inc     rax
        and     ecx, 7
2:      cmp     r9d, 1
        jne     3f
        inc     rax
        jmp     6f
3:      cmp     r9d, 2
        je      4f
        cmp     ecx, 5
        jne     6f
4:      add     rax, 4
6:      mov     [rdx+168], rax
        mov     eax, 0x80000000
        test    r11d, 8
        jz      7f
        shl     rax, 32
7:      mov     [rdx+144], rax
        mov     qword ptr [rdx+136], 0
        ret
8:      mov     rax, [rip+previous]
        cmp     rax, 1
        jbe     9f
        jmp     rax
9:      mov     edi, 8
        xor     esi, esi
        jmp     [rip+signal]

        .balign 16
# void frozen_time(timeval): in the place of the engine's gettimeofday(), by which it shrinks its TLB after 100 ms:
# what a TLB still holds must not depend on the wall clock
frozen_time:
        xor     eax, eax
        mov     [rdi], rax
        mov     [rdi+8], rax
        ret

# The engine lets stores through a mapping that is not executable run unwatched after the first one, whether or not
# the frame holds code under another mapping.  The next three make it right: the first unwatched store of a mapping
# drops the frame's blocks, and a new block makes the stores of every mapping of its frames watched again.

        .balign 16
# tb_invalidate_phys_page_fast(uc, pages, ram_address, ...): remember where a watched store goes
watched_store:
        mov     [rip+stored_engine], rdi
        mov     [rip+stored_at], rdx
        jmp     [rip+invalidate_bytes]

        .balign 16
# tlb_set_dirty(cpu, linear): the stores of a mapping become unwatched
unwatch:
        push    rdi
        push    rsi
        sub     rsp, 8
        mov     rdi, [rip+stored_engine]
        mov     rsi, [rip+stored_at]
        and     rsi, -4096
        lea     rdx, [rsi+4096]
        call    [rip+invalidate_range]
        add     rsp, 8
        pop     rsi
        pop     rdi
        jmp     [rip+set_dirty]

        .balign 16
# tcg_tb_insert(tcg, block): a block was translated
translated:
        push    rbx
        push    r12
        push    r13
        sub     rsp, 16
        mov     r12, rsi
        call    [rip+insert_block]
        mov     rbx, [rip+running]
        test    rbx, rbx
        jz      2f
        mov     rsi, [r12]              # TranslationBlock.pc
        movzx   eax, word ptr [r12+20]  # .size
        lea     r13, [rsi+rax-1]
1:      mov     r12, rsi
        mov     rdi, [rbx+ENV]
        mov     rdx, rsp
        call    [rip+code_page]
        cmp     rax, -1
        je      2f
        mov     rsi, [rsp]
        and     rsi, -4096
        mov     edx, 4096
        mov     rdi, [rbx+CPU]
        call    [rip+watch_page]
        mov     rsi, r13
        xor     r12, r13
        shr     r12, 12
        mov     r12, r13
        jnz     1b
2:      add     rsp, 16
        pop     r13
        pop     r12
        pop     rbx
        ret

        .balign 16
# cpu_x86_update_cr0, _cr3 and _cr4(env, value): where MOV CR loads the PDPTEs of PAE paging, a present one with a
# reserved bit is #GP(0) at the instruction, and nothing has changed (SDM 3A, 4.4.1).  The engine loads none.
load_cr0:
        mov     rax, [rip+update_cr0]
        mov     ecx, [rdi+AT_CR0]
        xor     ecx, esi
        test    ecx, CD_NW_PG
        jz      9f
        test    esi, PG
        jz      9f
        test    dword ptr [rdi+AT_CR4], PAE
        jz      9f
        mov     edx, [rdi+AT_CR3]
        jmp     check_pdptes
load_cr4:
        mov     rax, [rip+update_cr4]
        mov     ecx, [rdi+AT_CR4]
        xor     ecx, esi
        test    ecx, PAE_PGE_PSE
        jz      9f
        test    esi, PAE
        jz      9f
        test    dword ptr [rdi+AT_CR0], PG
        jz      9f
        mov     edx, [rdi+AT_CR3]
        jmp     check_pdptes
load_cr3:
        mov     rax, [rip+update_cr3]
        test    dword ptr [rdi+AT_CR0], PG
        jz      9f
        test    dword ptr [rdi+AT_CR4], PAE
        jz      9f
        mov     edx, esi
check_pdptes:                           # edx: CR3, rax: where it goes on
        cmp     qword ptr [rip+running], 0
        je      9f
        push    rbx
        push    r12
        push    r13
        push    rax
        push    rsi
        mov     rbx, rdi
        mov     r12d, edx
        and     r12d, -32
        lea     r13, [r12+32]
1:      mov     rdi, [rip+running]
        mov     rdi, [rdi+CPU]
        mov     rsi, r12
        call    [rip+load_quad]
        test    al, 1
        jz      2f
        movabs  rcx, PDPTE_RESERVED
        test    rax, rcx
        jnz     3f
2:      add     r12, 8
        cmp     r12, r13
        jb      1b
3:      mov     rdi, rbx
        pop     rsi
        pop     rax
        pop     r13
        pop     r12
        pop     rbx
        jnz     4f                      # ZF is from the last entry's test, or set by the end of the loop
9:      jmp     rax
4:      mov     esi, 13
        xor     edx, edx
        jmp     [rip+raise_error]       # unwinds to the engine's loop

        .balign 16
# gen_intermediate_code(cpu, block, most): the translator has room for 512 temporaries, does not look whether it has used
# them up, and x87 instructions leave some of theirs behind: no block of as many instructions as it would take.
shorten:
        mov     eax, LONGEST_BLOCK
        cmp     edx, eax
        cmova   edx, eax
        jmp     [rip+translate]

        .balign 16
# void tick(signal): time has passed on the host; the run that is going on ends at its next block.  The timer signals
# the thread that runs the engine, so that no instruction that counts fuel is half done here.
tick:
        mov     rax, [rip+running]
        test    rax, rax
        jz      1f
        mov     qword ptr [rax+FUEL], -1
1:      ret

        .balign 16
# void fatal(signal): a worker's last signal.  Stop, so that the parent can read this process; it ends it.
fatal:
        mov     [rip+fatal_signal], rdi
1:      mov     eax, 39                 # getpid
        syscall
        mov     edi, eax
        mov     esi, 19                 # SIGSTOP
        mov     eax, 62                 # kill
        syscall
        jmp     1b

        .balign 16
# The rest of `enter` where AHEAD names a context: that runs first, and where it comes to a HLT, at once what was to run.
# What stops it otherwise is Python's to answer: then AHEAD stays, AHEAD_BLOCKS are left, and nothing else has run.
enter_behind:
        push    rbx
        push    [rdi+CONTEXT]
        push    [rdi+BLOCKS]
        push    [rdi+BEHIND]
        sub     rsp, 8
        mov     rbx, rdi
        mov     rax, [rbx+AHEAD]
        mov     rcx, [rbx+AHEAD_BLOCKS]
        mov     [rbx+CONTEXT], rax
        mov     [rbx+BLOCKS], rcx
        mov     qword ptr [rbx+BEHIND], -1
        call    enter_one
        add     rsp, 8
        mov     rcx, [rbx+BLOCKS]
        mov     [rbx+AHEAD_BLOCKS], rcx
        pop     [rbx+BEHIND]
        pop     [rbx+BLOCKS]
        pop     [rbx+CONTEXT]
        mov     eax, 1
        mov     ecx, [rbx+REASON]
        or      rcx, [rbx+ERROR]
        or      rcx, [rbx+REFUSED]
        jnz     1f
        mov     [rbx+AHEAD], rcx
        mov     rdi, rbx
        pop     rbx
        jmp     enter_one
1:      pop     rbx
        ret

clean:  .long   0x1f80                  # MXCSR: exceptions masked, no flags

end_of_code:
        .balign 4096
# a page of data, filled in by ../stubs.py
library_first:          .quad 0
library_end:            .quad 0
previous:               .quad 0
signal:                 .quad 0
running:                .quad 0
real_abort:             .quad 0
leave_loop:             .quad 0
raise_error:            .quad 0
remove_breakpoints:     .quad 0
set_debug7:             .quad 0
invalidate_bytes:       .quad 0
invalidate_range:       .quad 0
set_dirty:              .quad 0
insert_block:           .quad 0
code_page:              .quad 0
watch_page:             .quad 0
stored_engine:          .quad 0
stored_at:              .quad 0
fatal_signal:           .quad 0
update_cr0:             .quad 0
update_cr3:             .quad 0
update_cr4:             .quad 0
load_quad:              .quad 0
translate:              .quad 0
