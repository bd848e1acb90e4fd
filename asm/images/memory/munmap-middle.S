# munmap in the middle: one area becomes two, with nothing in between.
#
# Three pages are written and read; then the middle one is unmapped.  A child that touches it must die, although its
# translation was in the TLB a moment ago; the outer pages must not notice.  A new page in the same place is empty.
# At the end all three pages go in one call, with a hole in the middle: both areas, and no frame of theirs is kept.
#
# Faults: 0x20001000: user write not-present -> demand-zero; user read not-present -> sigsegv (the child); user read
# not-present -> zero-page.

        .include "linux.inc"

        .set    HERE, 0x20000000
        .set    MIDDLE, HERE + PAGE

        .globl  _start
_start:
        map_pages 3, HERE, flags=MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED
        expect  eax, HERE, 1
        mov     dword ptr [HERE], 1
        mov     dword ptr [MIDDLE], 2
        mov     dword ptr [HERE+2*PAGE], 3

        fork_to child
        expect_killed SIGSEGV, 2

        sys     munmap, MIDDLE, PAGE
        expect  eax, 0, 3
        sys     munmap, MIDDLE, PAGE        # nothing there: no error
        expect  eax, 0, 4
        sys     write, 1, MIDDLE, 1         # nothing there for the kernel either
        expect  eax, -EFAULT, 5
        map_pages 1, MIDDLE, flags=MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED
        expect_at HERE, 1, 6
        expect_at MIDDLE, 0, 7
        expect_at HERE+2*PAGE, 3, 8
        sys     munmap, MIDDLE, PAGE
        sys     munmap, HERE, 3*PAGE        # two areas, and the hole between them
        expect  eax, 0, 9
        sys     write, 1, HERE, 1
        expect  eax, -EFAULT, 10
        sys     write, 1, HERE+2*PAGE, 1
        expect  eax, -EFAULT, 11
        say     "munmap-middle: 1 and 3 stayed, 2 is gone\n"
        pass

child:  expect_at MIDDLE, 2, 104            # now its translation is in the TLB
        sys     munmap, MIDDLE, PAGE
        expect  eax, 0, 100
        expect_at HERE, 1, 101
        expect_at HERE+2*PAGE, 3, 102
        mov     eax, [MIDDLE]
        sys     exit, 103
