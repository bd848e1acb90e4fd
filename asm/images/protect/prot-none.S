# PROT_NONE: a page that exists and that nobody may touch; its contents wait for better times.
#
# There is no bit for "present, but not readable": the kernel clears P and remembers the frame in the entry.  A load in
# ring 3 is then fatal, the kernel's own load ends in EFAULT, and mprotect brings the page back with what it held.  A
# forked child has the hidden page, too.
#
# Faults at guard: user write not-present -> demand-zero; user read not-present -> sigsegv (the child); kernel read
# not-present -> fixup (write(2)).

        .include "linux.inc"

        .globl  _start
_start:
        mov     dword ptr [guard], 0xCAFE
        sys     mprotect, "offset guard", PAGE, PROT_NONE
        expect  eax, 0, 1
        fork_to child
        expect_killed SIGSEGV, 2
        fork_to heir
        expect_exit 0, 6

        sys     pipe, "offset ends"
        sys     write, [ends+4], "offset guard", 4
        expect  eax, -EFAULT, 3

        sys     mprotect, "offset guard", PAGE, PROT_READ
        expect  eax, 0, 4
        expect_at guard, 0xCAFE, 5
        say     "prot-none: out of reach, not lost\n"
        pass

child:  mov     eax, [guard]
        sys     exit, 100

heir:   sys     mprotect, "offset guard", PAGE, PROT_READ|PROT_WRITE
        expect  eax, 0, 101
        expect_at guard, 0xCAFE, 102
        mov     dword ptr [guard], 0xBEEF   # on a copy of its own
        pass

        .bss
ends:   .skip   8
        .balign PAGE
guard:  .skip   PAGE
