# Host code in the place of the engine's two empty watchpoint functions (sandbox/engine/watch.py).
#
# QEMU asks `matches` when it fills a TLB entry, and `check` before an access through an entry that matched.
# Rebuild: as --64 -o w.o watch.S; objcopy -O binary -j .text w.o w.bin; tests/engine/test_watch.py compares.

        .intel_syntax noprefix
        .text

        .set    STOP, 8                 # HookPad of stubs.S
        .set    REASON, 36
        .set    ENGINE, 80
        .set    WATCHED, 8

        .set    W_CPU, 0                # a watch: CPUState or 0 for any, first and end linear address, 1 read | 2 write
        .set    W_FIRST, 8
        .set    W_END, 16
        .set    W_FLAGS, 24

# int matches(cpu, linear, length): what of a page is watched
        .balign 16
matches:
        xor     eax, eax
        mov     ecx, [rip+count]
        lea     r8, [rip+watches]
        add     rdx, rsi
1:      sub     ecx, 1
        js      3f
        mov     r9, [r8+W_CPU]
        test    r9, r9
        jz      2f
        cmp     r9, rdi
        jne     4f
2:      cmp     rsi, [r8+W_END]
        jae     4f
        cmp     rdx, [r8+W_FIRST]
        jbe     4f
        or      eax, [r8+W_FLAGS]
4:      add     r8, 32
        jmp     1b
3:      ret

# void check(cpu, linear, size, attributes, flags, return address)
#
# An unaligned store inside a page comes as (address, -offset in page), then (page, offset + size), then byte by byte.
        .balign 16
check:
        test    rdx, rdx
        jg      1f
        mov     [rip+store_at], rsi
        mov     [rip+store_back], r9
        ret
1:      cmp     r9, [rip+store_back]
        jne     5f
        mov     r10, [rip+store_at]
        mov     rax, r10
        and     rax, -4096
        cmp     rax, rsi
        jne     5f
        mov     rsi, r10
        and     r10d, 4095
        sub     rdx, r10
5:      mov     qword ptr [rip+store_back], 0
        mov     ecx, [rip+count]
        lea     r10, [rip+watches]
        lea     r11, [rsi+rdx]
2:      sub     ecx, 1
        js      4f
        mov     rax, [r10+W_CPU]
        test    rax, rax
        jz      3f
        cmp     rax, rdi
        jne     6f
3:      cmp     rsi, [r10+W_END]
        jae     6f
        cmp     r11, [r10+W_FIRST]
        jbe     6f
        test    r8d, [r10+W_FLAGS]
        jnz     hit
6:      add     r10, 32
        jmp     2b
4:      ret
hit:    mov     rax, [rip+cell]
        mov     rax, [rax]
        test    rax, rax                # Python's own access, or the instruction after a stop: let it pass
        jz      4b
        cmp     qword ptr [rip+passing], 0
        jne     4b
        mov     [rip+linear], rsi
        mov     [rip+size], rdx
        mov     [rip+how], r8
        mov     dword ptr [rax+REASON], WATCHED
        push    rdi
        push    r9
        sub     rsp, 8
        mov     rdi, [rax+ENGINE]
        call    [rax+STOP]
        add     rsp, 8
        pop     rsi
        pop     rdi
        jmp     [rip+leave]             # unwinds to the engine's loop
end_of_code:

        .balign 4096
cell:           .quad 0
leave:          .quad 0
count:          .quad 0
passing:        .quad 0
store_at:       .quad 0
store_back:     .quad 0
linear:         .quad 0
size:           .quad 0
how:            .quad 0
watches:        .fill 256, 8, 0
