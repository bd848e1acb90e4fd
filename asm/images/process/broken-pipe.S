# A pipe that nobody reads any more: the writer is told by SIGPIPE, a reader without writers by the end of the data.
#
#   child        writes to a pipe whose only end for reading it has closed           dies of SIGPIPE
#   other child  waits for data in a pipe; the last writer closes it                read gives 0, it exits
#   the parent   reads what was written before the writer went, then 0
#
# What counts as the last is the number of open ends in all processes: every fork makes one more of each.

        .include "linux.inc"

        .set    SIGPIPE, 13

        .globl  _start
_start:
        sys     pipe, "offset ends"
        fork_to lonely_writer
        expect_killed SIGPIPE, 1

        fork_to last_reader                 # it holds a pipe whose other end is in the parent alone
        mov     edi, 50
1:      sys     sched_yield                 # let it come to its read
        dec     edi
        jnz     1b
        sys     close, [ends+4]
        expect_exit 42, 2

        sys     pipe, "offset ends"
        fork_to short_writer
        sys     close, [ends+4]
        expect_exit 0, 3                    # it is gone, its words are not
        sys     read, [ends], "offset got", 16
        expect  eax, 4, 4
        expect_at got, 0x6C6C6577, 5        # "well"
        sys     read, [ends], "offset got", 16
        expect  eax, 0, 6
        say     "broken-pipe: SIGPIPE for the writer, the end for the reader\n"
        pass

lonely_writer:
        sys     pipe, "offset own"
        sys     close, [own]
        sys     write, [own+4], "offset text", 4
        sys     exit, 100

last_reader:
        sys     close, [ends+4]
        sys     read, [ends], "offset got", 1
        expect  eax, 0, 101
        sys     exit, 42

short_writer:
        sys     write, [ends+4], "offset text", 4
        expect  eax, 4, 102
        pass

        .section .rodata
text:   .ascii  "well"

        .bss
ends:   .skip   8
own:    .skip   8
got:    .skip   16
