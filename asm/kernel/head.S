# From the state after reset (protected mode, flat, paging off, running at physical 1 MB) to the kernel's own
# addresses: control registers, descriptor tables, task register.
#
#   eax  CR3 of swapper_pg_dir, which still maps the first megabytes at their physical addresses
#   ebx  CR4        ecx  EFER (0: leave it alone)        edx  CR0
#   esi  linear address of the GDT pseudo-descriptor     edi  of the IDT's      ebp  selector of this CPU's TSS
#   esp  top of this CPU's boot stack (linear)

        .intel_syntax noprefix
        .include "kernel.inc"

# Needed once: these pages go back to the allocator when every CPU has come up, and their addresses are unmapped.
        .section .init.text, "ax"

        .globl  startup_32
startup_32:
        mov     cr3, eax
        mov     cr4, ebx
        test    ecx, ecx
        jz      1f
        mov     ebx, edx
        mov     eax, ecx
        xor     edx, edx
        mov     ecx, 0xC0000080
        wrmsr
        mov     edx, ebx
1:      mov     cr0, edx
        mov     eax, offset high
        jmp     eax
high:
        lgdt    [esi]
        lidt    [edi]
        mov     eax, KERNEL_DS
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        xor     eax, eax
        mov     fs, ax
        mov     gs, ax
        lldt    ax
        ljmp    KERNEL_CS, offset 1f
1:      ltr     bp
        hlt

# A module's call into it after boot must fault.
        .globl  init_only
init_only:
        ret

        .text

# Where cpu.call enters: ebx is the routine, the other registers are its arguments.  The HLT hands the CPU back.
        .globl  call_stub, call_done
call_stub:
        call    ebx
        hlt
call_done:

# The same for routines with C arguments: eax, edx, ecx are the first three.
        .globl  call_cdecl
call_cdecl:
        push    ecx
        push    edx
        push    eax
        call    ebx
        add     esp, 12
        hlt

# A module's function: eax, edx, ecx, esi are its arguments.  FS is the user's, as 2.0 enters the kernel.
        .globl  call_module
call_module:
        push    esi
        push    ecx
        push    edx
        push    eax
        mov     eax, USER_DS
        mov     fs, ax
        cld
        sti
        call    ebx
        add     esp, 16
        hlt

# A new program's first steps: eax is its entry, edx its stack pointer.
        .globl  start_thread
start_thread:
        push    USER_DS
        push    edx
        push    EFLAGS_IF
        push    USER_CS
        push    eax
        mov     eax, USER_DS
        mov     ds, ax
        mov     es, ax
        xor     eax, eax
        mov     fs, ax
        mov     gs, ax
        xor     ebx, ebx
        xor     ecx, ecx
        xor     edx, edx
        xor     esi, esi
        xor     edi, edi
        xor     ebp, ebp
        iretd

# Init code is overwritten before its pages are somebody else's: eax is 0xCC four times, ecx words, edi where.
        .globl  poison
poison:
        cld
        rep stosd
        ret

# Guest kernel code enters the mini-kernel here: eax is the number of the exported symbol, the caller's return address
# and C arguments are on the stack.
        .globl  kernel_gate
kernel_gate:
        int     0xF0
        ret

        .section .note.GNU-stack,"",@progbits
