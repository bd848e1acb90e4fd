# Copy on write: fork shares every page, and the first store after it decides who gets a copy.
#
#   parent           child            frames behind `page`
#   page := 7                         one, the parent's
#   fork             fork             one, counted twice, read-only in both
#   (waits)          page := 8        two: the child copied
#                    exit             one again; the parent's entry is still read-only
#   page := 9                         one: the sole owner need not copy
#
# Faults at page: user write not-present -> demand-zero; user write protection -> cow-copy (child); user write
# protection -> cow-reuse (parent).

        .include "linux.inc"

        .globl  _start
_start:
        mov     dword ptr [page], 7
        mov     dword ptr [page+PAGE-4], 70
        fork_to child
        expect_exit 8, 1                    # what the child found after its own store
        expect_at page, 7, 2                # ... which the parent must not see
        mov     dword ptr [page], 9
        expect_at page, 9, 3
        expect_at page+PAGE-4, 70, 4        # nobody's store: in both frames
        say     "cow-fork: the child wrote 8, the parent kept 7\n"
        pass

child:
        expect_at page, 7, 100              # inherited, not copied yet
        mov     dword ptr [page], 8
        expect_at page+PAGE-4, 70, 101
        sys     exit, [page]

        .bss
        .balign PAGE
page:   .skip   PAGE
