# Host code between the engine's MMU and its callers: what the MMU does, as records in a ring (sandbox/engine/tlbfeed.py).
#
# Each stub stands in a slot of the library's procedure linkage table, or in the word through which a CPU calls its
# miss handler, and goes on to what was there before.  While no CPU runs, what is done is Python's: nothing is noted.
#
# A record has eight 64-bit words:
#       0       kind | CPU << 4 | more << 32
#       1 to 5  what the kind has (tlbfeed.py)
#       3       of an entry read and of INVLPG: the number of the record before it in its slot's chain
#       6, 7    blocks left of the run, and the linear address of the block entered last
#
# Rebuild: as --64 -o f.o tlbfeed.S; objcopy -O binary -j .text f.o f.bin; tests/engine/test_tlbfeed.py compares.

        .intel_syntax noprefix
        .text

        .set    MISS, 1
        .set    ENTRY, 2
        .set    MARK, 3
        .set    FILL, 4
        .set    TO_CR3, 5
        .set    TO_CR4, 6
        .set    TO_CR0, 7
        .set    PAGE, 8
        .set    PDPTE, 9
        .set    STALE, 10

        .set    PAD_BLOCKS, 0           # HookPad of stubs.S
        .set    PAD_FIRST, 56
        .set    PAD_NUMBER, 168

        .set    ENV, 0x8a50             # CPUX86State in CPUState
        .set    ENV_CR0, 0x1a8
        .set    ENV_CR3, 0x1c0
        .set    ENV_CR4, 0x1c8
        .set    CR0_PG, 0x80000000
        .set    CR4_PAE, 0x20

# r10: kind and more; rsi, rdx, rcx, r8, r9: words 1 to 5.  Changes rax and r11 only.
# Entered at `put_first` where no walk is going on, it has Python read the ring when there is little room left.
put_first:
        mov     rax, [rip+head]
        cmp     rax, [rip+limit]
        jae     full
put:    mov     rax, [rip+head]
        lea     r11, [rax+1]
        mov     [rip+head], r11
        shl     rax, 6
        add     rax, [rip+ring]
        mov     [rax+8], rsi
        mov     [rax+16], rdx
        mov     [rax+24], rcx
        mov     [rax+32], r8
        mov     [rax+40], r9
        mov     r11, [rip+cell]
        mov     r11, [r11]
        push    rbx
        mov     rbx, [r11+PAD_NUMBER]
        shl     rbx, 4
        or      rbx, r10
        mov     [rax], rbx
        mov     rbx, [r11+PAD_BLOCKS]
        mov     [rax+48], rbx
        mov     rbx, [r11+PAD_FIRST]
        mov     [rax+56], rbx
        pop     rbx
        ret
full:   push    rdi
        push    rsi
        push    rdx
        push    rcx
        push    r8
        push    r9
        push    r10
        push    rbp
        mov     rbp, rsp
        and     rsp, -16
        call    [rip+drain]
        fnclex                          # Python may have computed (x87.S)
        ldmxcsr [rip+clean]
        mov     rsp, rbp
        pop     rbp
        pop     r10
        pop     r9
        pop     r8
        pop     rcx
        pop     rdx
        pop     rsi
        pop     rdi
        jmp     put

# The record at rax, an entry's or INVLPG's, becomes the first of the chain in a slot: r11w.  Changes rcx and r11.
chain:  movzx   r11d, r11w
        shl     r11, 3
        add     r11, [rip+chains]
        mov     rcx, [r11]
        mov     [rax+24], rcx
        mov     rcx, [rip+number]
        add     rcx, [rip+head]
        mov     [r11], rcx
        ret

        .macro  running_or target
        mov     rax, [rip+cell]
        cmp     qword ptr [rax], 0
        je      \target
        .endm

# tlb_set_page_with_attrs(cpu, linear, physical, attributes, protection, mmu index, size)
        .balign 16
fill:   running_or 1f
        mov     r10d, [rsp+8]
        shl     r10, 32
        or      r10, FILL
        call    put
1:      jmp     [rip+old_fill]

# x86_ldl_phys(cpu, physical), x86_ldq_phys(cpu, physical)
        .balign 16
load_long:
        running_or 1f
        push    rdi
        push    rsi
        push    r10
        call    [rip+old_load_long]
        mov     eax, eax
        jmp     loaded
1:      jmp     [rip+old_load_long]
        .balign 16
load_quad:
        running_or 1f
        push    rdi
        push    rsi
        push    r10
        call    [rip+old_load_quad]
loaded: pop     r10
        pop     rsi
        pop     rdi
        push    rax
        mov     rdx, rax
        mov     r10d, ENTRY
        call    put
        mov     r11d, esi
        shr     r11d, 2
        call    chain
        pop     rax
        ret
1:      jmp     [rip+old_load_quad]

# x86_stl_phys_notdirty(cpu, physical, value): accessed and dirty bits
        .balign 16
store_long:
        running_or 1f
        mov     r10d, MARK
        call    put
1:      jmp     [rip+old_store_long]

# cpu_x86_update_cr3(env, value); a load that raises #GP does not come back, and is none.
        .balign 16
load_cr3:
        running_or 1f
        push    rdi
        push    rsi
        push    [rdi+ENV_CR3]
        call    [rip+old_load_cr3]
        mov     r10d, TO_CR3
        jmp     control
1:      jmp     [rip+old_load_cr3]
        .balign 16
load_cr4:
        running_or 1f
        push    rdi
        push    rsi
        push    [rdi+ENV_CR4]
        call    [rip+old_load_cr4]
        mov     r10d, TO_CR4
        jmp     control
1:      jmp     [rip+old_load_cr4]
        .balign 16
load_cr0:
        running_or 1f
        push    rdi
        push    rsi
        push    [rdi+ENV_CR0]
        call    [rip+old_load_cr0]
        mov     r10d, TO_CR0
        jmp     control
1:      jmp     [rip+old_load_cr0]

# The load is done: new value, old value; then, where PAE paging is on, the four PDPTEs that go into registers.
control:
        pop     rdx
        pop     rsi
        pop     rdi
        call    put_first
        mov     eax, [rdi+ENV_CR0]
        test    eax, CR0_PG
        jz      1f
        test    dword ptr [rdi+ENV_CR4], CR4_PAE
        jz      1f
        push    rbx
        push    r12
        push    r13
        mov     r12, [rdi+ENV_CR3]
        and     r12, -32
        lea     r13, [r12+32]
        lea     rbx, [rdi-ENV]
2:      mov     rdi, rbx
        mov     rsi, r12
        call    [rip+old_load_quad]
        mov     rsi, r12
        mov     rdx, rax
        mov     r10d, PDPTE
        call    put
        add     r12, 8
        cmp     r12, r13
        jb      2b
        pop     r13
        pop     r12
        pop     rbx
1:      ret

# tlb_flush_page(cpu, linear): INVLPG
        .balign 16
flush_page:
        running_or 1f
        mov     r10d, PAGE
        call    put_first
        mov     r11d, esi
        shr     r11d, 12
        call    chain
1:      jmp     [rip+old_flush_page]

# x86_cpu_tlb_fill(cpu, linear, size, access, mmu index, probe, return address) -> bool; on #PF it does not come back.
# Pages whose bit is set in `bitmap` are asked about: the answer 1 puts the translation of `old_*` into the TLB.
        .balign 16
miss:   running_or 1f
        push    rdx
        push    rcx
        push    r8
        push    r9
        mov     r10d, r8d
        shl     r10, 8
        movzx   ecx, cl
        or      r10, rcx
        shl     r10, 32
        or      r10, MISS
        mov     rdx, [rdi+ENV+ENV_CR3]
        mov     rcx, [rdi+ENV+ENV_CR0]
        mov     r8, [rdi+ENV+ENV_CR4]
        mov     r9, [rsp+40]
        call    put_first
        pop     r9
        pop     r8
        pop     rcx
        pop     rdx
        mov     rax, [rip+bitmap]
        test    rax, rax
        jz      1f
        mov     r11d, esi
        shr     r11d, 12
        bt      [rax], r11
        jc      2f
1:      jmp     [rip+old_miss]
2:      push    rdi
        push    rsi
        push    rdx
        push    rcx
        push    r8
        push    r9
        push    [rsp+56]                # the return address, as the seventh argument
        call    [rip+decide]
        fnclex                          # Python may have computed (x87.S)
        ldmxcsr [rip+clean]
        add     rsp, 8
        pop     r9
        pop     r8
        pop     rcx
        pop     rdx
        pop     rsi
        pop     rdi
        test    eax, eax
        jz      1b
        mov     r9d, r8d
        push    [rip+stale_size]
        and     rsi, -4096
        mov     rdx, [rip+stale_physical]
        mov     ecx, [rip+stale_attributes]
        mov     r8d, [rip+stale_protection]
        mov     r10d, STALE
        call    put
        call    [rip+old_fill]
        add     rsp, 8
        mov     eax, 1
        ret
clean:  .long   0x1f80

end_of_code:

        .balign 4096
head:                   .quad 0
limit:                  .quad 0
ring:                   .quad 0
drain:                  .quad 0
cell:                   .quad 0
bitmap:                 .quad 0
decide:                 .quad 0
chains:                 .quad 0
number:                 .quad 0
stale_physical:         .quad 0
stale_protection:       .quad 0
stale_attributes:       .quad 0
stale_size:             .quad 0
old_fill:               .quad 0
old_load_long:          .quad 0
old_load_quad:          .quad 0
old_store_long:         .quad 0
old_load_cr3:           .quad 0
old_load_cr4:           .quad 0
old_load_cr0:           .quad 0
old_flush_page:         .quad 0
old_miss:               .quad 0
