# Out of memory: the program that asks for one page too many dies of SIGKILL, and what it had is free again.
#
# On a machine with 16 MB a child writes to page after page of a 64 MB array.  exec and fork promised it all; the
# promise breaks at a fault, where there is no call that could return an error.  The parent lives on.  Twice more a
# child takes 13 MB and leaves: that works only if the frames of the dead come back.  Between these, 250 children
# touch a page in every table of the array, so that the tables must come back too.
#
# Not native: a real machine has more memory, and if not, much more than this program would die.
#
# Faults: user write not-present -> demand-zero, thousands, then user write not-present -> oom-kill.

        .include "linux.inc"

        .set    HOARD, 64<<20
        .set    MODEST, 13<<20
        .set    SPARSE, 250
        .set    STEP, 2<<20             # what a table of PAE maps; a legacy one maps twice that

        .globl  _start
_start:
        mov     esi, HOARD
        fork_to child
        expect_killed SIGKILL, 1
        mov     esi, MODEST
        fork_to child
        expect_exit 0, 2
        mov     ebp, SPARSE
2:      fork_to sparse
        expect_exit 0, 4
        dec     ebp
        jnz     2b
        fork_to child
        expect_exit 0, 3
        say     "oom: one was killed, two found room\n"
        pass

# esi: bytes to touch
child:  mov     edi, offset array
        add     esi, edi
1:      mov     [edi], edi
        add     edi, PAGE
        cmp     edi, esi
        jb      1b
        pass

sparse: mov     edi, offset array
1:      mov     [edi], edi
        add     edi, STEP
        cmp     edi, offset array+HOARD
        jb      1b
        pass

        .bss
        .balign PAGE
array:  .skip   HOARD
