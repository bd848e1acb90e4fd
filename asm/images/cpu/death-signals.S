# Every exception has its signal: thirteen children, thirteen ways to die.
#
# A table names a routine and the signal that Linux sends for what it does.  Each runs in a child of its own; the parent
# reads the wait status.  Some are odd: INTO and BOUND are SIGSEGV, and so is an INT n that ring 3 may not use (its gate
# says so, and the CPU turns it into #GP).  The quotient of -2^31 and -1 does not fit and is a divide error like the
# division by zero.
#
# Faults: 0: user read not-present -> sigsegv, the only page fault among them.

        .include "linux.inc"

        .globl  _start
_start:
        mov     esi, offset deaths
1:      fork_to child
        wait_child
        and     eax, 0xFFFFFF7F             # bit 7 tells of a core dump
        mov     edi, [esi+4]
        expect  eax, edi, 1
        add     esi, 8
        cmp     esi, offset deaths_end
        jne     1b
        say     "death-signals: FPE FPE FPE FPE ILL ILL TRAP TRAP SEGV SEGV SEGV SEGV SEGV\n"
        pass

child:  call    [esi]
        sys     exit, 100                   # alive

divide_by_zero:
        xor     ecx, ecx
        xor     edx, edx
        mov     eax, 1
        div     ecx
        ret

divide_too_large:
        mov     edx, 5
        mov     ecx, 5
        div     ecx
        ret

divide_minimum:
        mov     eax, 0x80000000
        cdq
        mov     ecx, -1
        idiv    ecx
        ret

x87_unmasked:
        fninit
        push    0x037B                      # all masked but division by zero
        fldcw   [esp]
        pop     eax
        fld1
        fldz
        fdivp
        fwait                               # x87 errors wait for the next x87 instruction
        ret

undefined:
        ud2
        ret

no_lock:
        .byte   0xF0                        # lock nop
        nop
        ret

breakpoint:
        int3
        ret

single_step:
        pushf
        or      dword ptr [esp], 0x100      # TF
        popf
        nop
        nop
        ret

overflow:
        mov     al, 127
        inc     al
        into
        ret

out_of_bounds:
        mov     eax, 11
        bound   eax, [one_to_ten]
        ret

software_interrupt:
        int     0x42
        ret

halt:   hlt
        ret

null:   mov     eax, [0]
        ret

        .section .rodata
deaths: .long   divide_by_zero, SIGFPE
        .long   divide_too_large, SIGFPE
        .long   divide_minimum, SIGFPE
        .long   x87_unmasked, SIGFPE
        .long   undefined, SIGILL
        .long   no_lock, SIGILL
        .long   breakpoint, SIGTRAP
        .long   single_step, SIGTRAP
        .long   overflow, SIGSEGV
        .long   out_of_bounds, SIGSEGV
        .long   software_interrupt, SIGSEGV
        .long   halt, SIGSEGV
        .long   null, SIGSEGV
deaths_end:

one_to_ten:
        .long   1, 10
