# mprotect gives permission to an area, not to an entry: a page that is shared stays read-only until it is copied.
#
# The child takes write permission away from the page and gives it back.  An mprotect that simply set the writable bit
# in every entry of the area would let the child's store through to the frame that the parent still uses.
#
# Faults at page: user write not-present -> demand-zero; user write protection -> cow-copy.

        .include "linux.inc"

        .globl  _start
_start:
        mov     dword ptr [page], 7
        fork_to child
        expect_exit 8, 1
        expect_at page, 7, 2
        say     "cow-mprotect: writable again, and still shared\n"
        pass

child:  sys     mprotect, "offset page", PAGE, PROT_READ
        expect  eax, 0, 100
        sys     mprotect, "offset page", PAGE, PROT_READ|PROT_WRITE
        expect  eax, 0, 101
        mov     dword ptr [page], 8
        sys     exit, [page]

        .bss
        .balign PAGE
page:   .skip   PAGE
