# Waiting: what a parent can learn of its children, and when.
#
#   waitpid(WNOHANG) while the child is still reading from an empty pipe      0: not yet
#   waitpid after a byte has let it go on                                     its pid, status 42 << 8
#   waitpid for a certain pid, though another child ended first               that one, of whose status 8 bits count
#   waitpid when nobody is left                                               ECHILD
#   waitpid while SIGCHLD is ignored, with a child                            ECHILD, when it has ended
#
# A child's child whose parent has ended gets another one, for which it is none of ours.

        .include "linux.inc"

        .set    SYS_signal, 48
        .set    SIGCHLD, 17
        .set    SIG_IGN, 1

        .globl  _start
_start:
        sys     getpid
        mov     [parent], eax
        sys     pipe, "offset ends"
        expect  eax, 0, 1
        fork_to reader
        mov     esi, eax

        mov     edi, 50                     # let the child come to its read
1:      sys     sched_yield
        expect  eax, 0, 2
        dec     edi
        jnz     1b
        sys     waitpid, -1, "offset status", WNOHANG
        expect  eax, 0, 3
        sys     write, [ends+4], "offset parent", 1
        sys     waitpid, esi, "offset status", 0
        expect  eax, esi, 4
        expect_at status, 42<<8, 5

        fork_to first
        mov     esi, eax
        fork_to second
        mov     edi, eax
        sys     wait4, edi, "offset status", 0, 0
        expect  eax, edi, 6
        expect_at status, 2<<8, 7
        fork_to first                       # esi holds wait4's fourth argument now
        mov     esi, eax
        sys     waitpid, esi, "offset status", 0
        expect  eax, esi, 8
        expect_at status, 1<<8, 9
        expect_exit 1, 10                   # whoever is left
        sys     waitpid, -1, "offset status", WNOHANG
        expect  eax, -ECHILD, 11

        fork_to middle
        expect_exit 0, 12
        sys     read, [ends], "offset status", 1
        expect  eax, 1, 13
        expect_byte_at status, 'y', 14
        sys     waitpid, -1, "offset status", WNOHANG
        expect  eax, -ECHILD, 15

        sys     signal, SIGCHLD, SIG_IGN
        fork_to first
        sys     waitpid, -1, "offset status", 0
        expect  eax, -ECHILD, 16
        say     "wait-status: not yet, now, that one, nobody\n"
        pass

reader: sys     getppid
        expect  eax, [parent], 100
        sys     read, [ends], "offset status", 1
        expect  eax, 1, 101
        sys     exit, 42

middle: sys     getpid
        mov     esi, eax
        fork_to orphan
        pass

orphan: mov     edi, 500                    # its parent ends meanwhile
1:      sys     nanosleep, "offset moment", 0
        sys     getppid
        cmp     eax, esi
        jne     2f
        dec     edi
        jnz     1b
        sys     write, [ends+4], "offset no", 1
        pass
2:      sys     write, [ends+4], "offset yes", 1
        pass

first:  sys     exit, 1
second: sys     exit, 0x102

        .section .rodata
moment: .long   0, 10000000                 # 10 ms
no:     .ascii  "n"
yes:    .ascii  "y"

        .bss
parent: .skip   4
ends:   .skip   8
status: .skip   4
