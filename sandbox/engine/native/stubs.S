# Host code for hooks that never enter Python.  x86-64, System V calling convention.
#
# The bytes are kept in ../stubs.py; tests/engine/test_stubs.py assembles this file and compares.
# Each stub gets as user data one HookPad:
#
#     +0  budget     blocks left, signed        +24  context    where the capture saves the CPU
#     +8  uc_emu_stop                           +32  vector     of the captured exception
#     +16 uc_context_save                       +36  reason     1 trap, 2 budget, 3 steps, 4 breakpoint
#     +40 steps      instructions left, signed  +48  skip       a breakpoint's address to pass once

        .intel_syntax noprefix
        .text

# void block(uc, address, size, pad)
block:
        sub     qword ptr [rcx], 1
        js      1f
        ret
1:      mov     dword ptr [rcx+36], 2
        jmp     [rcx+8]

        .balign 16
# void steps(uc, address, size, pad): count one instruction, stop when none are left
steps:
        sub     qword ptr [rcx+40], 1
        js      1f
        ret
1:      mov     dword ptr [rcx+36], 3
        jmp     [rcx+8]

        .balign 16
# void breakpoint(uc, address, size, pad)
breakpoint:
        cmp     rsi, [rcx+48]
        jne     1f
        mov     qword ptr [rcx+48], -1
        ret
1:      mov     dword ptr [rcx+36], 4
        jmp     [rcx+8]

        .balign 16
# void interrupt(uc, vector, pad): CR2 and the error code are only right here, so the state is saved here
interrupt:
        push    rbx
        sub     rsp, 16
        mov     [rdx+32], esi
        mov     dword ptr [rdx+36], 1
        mov     rbx, rdx
        mov     [rsp], rdi
        mov     rsi, [rdx+24]
        call    [rdx+16]
        mov     rdi, [rsp]
        call    [rbx+8]
        add     rsp, 16
        pop     rbx
        ret

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

        .balign 8
library_first:  .quad 0
library_end:    .quad 0
previous:       .quad 0
signal:         .quad 0
