# Sleep sort: each number is a child that sleeps so many times 80 ms, then says its number.
#
# nanosleep gives the CPU away until a point in time.  Four children are born in the order 3 1 4 2; their answers come
# in the order of their sleeps.  When all tasks sleep there is nothing to run, and the machine's time jumps on.  A sleep is
# counted from its own beginning: at the end the parent sleeps once, and the clock says for how long.

        .include "linux.inc"

        .set    UNIT, 80000000              # nanoseconds
        .set    SYS_clock_gettime, 265
        .set    CLOCK_MONOTONIC, 1

        .globl  _start
_start:
        sys     pipe, "offset ends"
        expect  eax, 0, 1
        mov     esi, offset numbers
1:      mov     edi, [esi]
        fork_to child
        add     esi, 4
        cmp     esi, offset numbers_end
        jne     1b

        mov     edi, offset sorted
2:      sys     read, [ends], edi, 1
        expect  eax, 1, 2
        inc     edi
        cmp     edi, offset sorted + 4
        jne     2b
        expect_at sorted, 0x34333231, 3     # "1234"
        mov     esi, 4
3:      expect_exit 0, 4
        dec     esi
        jnz     3b
        sys     clock_gettime, CLOCK_MONOTONIC, "offset before"
        push    UNIT
        push    0
        sys     nanosleep, esp, 0
        expect  eax, 0, 5
        sys     clock_gettime, CLOCK_MONOTONIC, "offset after"
        mov     eax, [after]
        sub     eax, [before]
        imul    eax, eax, 1000000000
        add     eax, [after+4]
        sub     eax, [before+4]
        cmp     eax, UNIT
        jb      early
        say     "sleep-sort: 3 1 4 2 -> 1 2 3 4\n"
        pass

early:  sys     exit, 6

# edi: the number
child:  imul    eax, edi, UNIT
        push    eax                         # struct timespec
        push    0
        sys     nanosleep, esp, 0
        expect  eax, 0, 100
        add     edi, '0'
        push    edi
        sys     write, [ends+4], esp, 1
        pass

        .section .rodata
numbers:
        .long   3, 1, 4, 2
numbers_end:

        .bss
ends:   .skip   8
sorted: .skip   4
before: .skip   8
after:  .skip   8
