# The kernel's stores break sharing too: read(2) into a page that fork left shared.
#
# The copy to the program's buffer runs in ring 0 on the program's own mapping, whose entry is read-only.  CR0.WP makes
# ring 0 respect that, so the copy faults, do_wp_page copies the page, and the rest goes into the child's own frame.
# (A 386 has no such bit: kernels for it had to look at every page first, see verify_area.)
#
# The buffer crosses a page boundary: two pages, two faults, one system call.
#
# What copies is not what permits: where the area itself is read-only, the same fault has no answer but EFAULT.
#
# Faults at buffer (page+0xff0), then page+0x1000: kernel write protection -> cow-copy; text: kernel write protection ->
# fixup.

        .include "linux.inc"

        .globl  _start
_start:
        mov     dword ptr [buffer], 0x77777777
        mov     dword ptr [buffer+0x10], 0x77777777
        sys     pipe, "offset ends"
        expect  eax, 0, 1
        sys     write, [ends+4], "offset text+1", 33
        expect  eax, 33, 2
        fork_to child
        expect_exit 0, 3
        expect_at buffer, 0x77777777, 4     # the first page of the parent's buffer
        expect_at buffer+0x10, 0x77777777, 5
        sys     read, [ends], "offset text", 1  # read-only for the kernel, too
        expect  eax, -EFAULT, 6
        expect_byte_at text, '_', 7
        say     "cow-kernel-write: read(2) in the child left the parent's pages alone\n"
        pass

child:  sys     read, [ends], "offset buffer", 32
        expect  eax, 32, 100
        expect_at buffer, 0x33323130, 101
        expect_at buffer+0x1c, 0x56555453, 102
        pass

        .section .rodata
text:   .ascii  "_0123456789ABCDEFGHIJKLMNOPQRSTUV."

        .bss
ends:   .skip   8
        .balign PAGE
page:   .skip   2*PAGE
        .set    buffer, page + 0xFF0
