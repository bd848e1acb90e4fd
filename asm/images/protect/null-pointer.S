# Nothing is mapped at 0, so that a null pointer is found by the MMU.
#
# Children die of a load through NULL, of a store to a member of a struct at NULL, and of a call through NULL.  A small
# offset does not help: the whole first page, and more, is kept free.  Nor may an ordinary user map something there.
#
# Faults: 0: user read not-present; 8: user write not-present; 0: user fetch not-present (user read on two-level paging)
# -> sigsegv.

        .include "linux.inc"

        .set    SYS_setuid32, 213
        .set    NOBODY, 65534
        .set    EPERM, 1

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
        sys     open, edi, O_RDONLY         # for a string, and for a struct that it would store
        expect  eax, -EFAULT, 6
        sys     uname, edi
        expect  eax, -EFAULT, 7
        fork_to mapper
        expect_exit 0, 5
        say     "null-pointer: caught three times, and EFAULT three times\n"
        pass

load:   mov     eax, [edi]
        sys     exit, 100

store:  mov     dword ptr [edi+8], 1
        sys     exit, 100

jump:   call    edi
        sys     exit, 100

mapper: sys     setuid32, NOBODY            # who is nobody already may not, and need not
        map_pages 1, 0, flags=MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED
        expect  eax, -EPERM, 100
        pass
