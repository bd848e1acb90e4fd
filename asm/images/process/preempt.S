# Preemption: two children that only compute must both get on, although neither ever gives the CPU up.
#
# Each child multiplies for a while, eight times over, and leaves a letter in a pipe after each time.  (A write to a
# pipe with room does not sleep.)  The parent reads the sixteen letters.  A kernel that lets a task run until it sleeps
# delivers AAAAAAAABBBBBBBB; with time slices, or with two CPUs, each child is heard before the other is done.
#
# The children begin together: each waits for a byte from the parent first.

        .include "linux.inc"

        .set    ROUNDS, 8
        .set    WORK, 1500000

        .globl  _start
_start:
        sys     pipe, "offset letters"
        sys     pipe, "offset starter"
        mov     esi, 'A'
        fork_to child
        mov     esi, 'B'
        fork_to child
        sys     write, [starter+4], "offset text", 2

        mov     edi, offset text            # collect the letters over the two bytes that are sent already
        mov     esi, 2*ROUNDS
1:      sys     read, [letters], edi, 1
        expect  eax, 1, 1
        inc     edi
        dec     esi
        jnz     1b
        expect_exit 0, 2
        expect_exit 0, 3

        mov     edi, offset text            # the first letter, and how often it comes before the other does
        mov     al, [edi]
        mov     ecx, 2*ROUNDS
        cld
        repe    scasb
        sub     edi, offset text + 1
        cmp     edi, ROUNDS
        jae     one_after_the_other
        say     "preempt: both were heard before one was done\n"
        pass

one_after_the_other:
        sys     exit, 4

# esi: the letter
child:  push    0
        sys     read, [starter], esp, 1
        expect  eax, 1, 100
        mov     [esp], esi
        mov     edi, ROUNDS
1:      mov     ecx, WORK
        mov     eax, esi
2:      imul    eax, eax, 1103515245        # each waits for the one before: time, for any CPU
        imul    eax, eax, 1103515245
        imul    eax, eax, 1103515245
        imul    eax, eax, 1103515245
        dec     ecx
        jnz     2b
        sys     write, [letters+4], esp, 1
        dec     edi
        jnz     1b
        pass

        .data
text:   .fill   2*ROUNDS, 1, '.'

        .bss
letters:
        .skip   8
starter:
        .skip   8
