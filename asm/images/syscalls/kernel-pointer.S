# A pointer into the kernel, given to the kernel: EFAULT before anything is touched.
#
# The kernel's copy routines run in ring 0, where the U/S bit stops nobody.  So every system call first compares the
# range with the end of user space (verify_area, later access_ok).  Without that, write(2) would send the kernel's
# memory to whoever asks, and read(2) would let him change it.
#
# A range that begins in user space and ends beyond it is no better.
#
# Faults: none but the ordinary ones.  That is the point.

        .include "linux.inc"

        .set    KERNEL, 0xC0100000

        .globl  _start
_start:
        sys     pipe, "offset ends"
        expect  eax, 0, 1
        sys     write, [ends+4], KERNEL, 16
        expect  eax, -EFAULT, 2
        sys     write, [ends+4], 0xBFFFFFF0, 32
        expect  eax, -EFAULT, 3
        sys     write, [ends+4], "offset text", 4
        expect  eax, 4, 4
        sys     read, [ends], KERNEL, 4
        expect  eax, -EFAULT, 5
        sys     read, [ends], "offset good", 4
        expect  eax, 4, 6                   # the failed read took nothing out
        sys     open, KERNEL, O_RDONLY
        expect  eax, -EFAULT, 7
        sys     pipe, KERNEL
        expect  eax, -EFAULT, 8
        sys     uname, KERNEL
        expect  eax, -EFAULT, 9

        fork_to child
        sys     waitpid, -1, KERNEL, 0      # the child is gone, its status has nowhere to go
        expect  eax, -EFAULT, 10
        say     "kernel-pointer: refused eight times\n"
child:  pass

        .section .rodata
text:   .ascii  "text"

        .bss
ends:   .skip   8
good:   .skip   4
