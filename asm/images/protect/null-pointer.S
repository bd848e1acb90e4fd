# Nothing is mapped at 0, so that a null pointer is found by the MMU.
#
# Children die of a load through NULL, of a store to a member of a struct at NULL, and of a call through NULL.  A small
# offset does not help: the whole first page, and more, is kept free.
#
# Faults: 0: user read not-present; 8: user write not-present; 0: user fetch not-present (user read on two-level paging)
# -> sigsegv.

        .include "linux.inc"

        .globl  _start
_start:
        xor     edi, edi                    # the null pointer
        fork_to load
        expect_killed SIGSEGV, 1
        fork_to store
        expect_killed SIGSEGV, 2
        fork_to jump
        expect_killed SIGSEGV, 3
        sys     write, 1, edi, 1            # and the kernel says EFAULT
        expect  eax, -EFAULT, 4
        say     "null-pointer: caught three times, and EFAULT\n"
        pass

load:   mov     eax, [edi]
        sys     exit, 100

store:  mov     dword ptr [edi+8], 1
        sys     exit, 100

jump:   call    edi
        sys     exit, 100
