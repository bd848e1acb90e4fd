# mprotect gives permission to an area, not to an entry: a page that is shared stays read-only until it is copied.
#
# The child takes write permission away from the page and gives it back.  An mprotect that simply set the writable bit
# in every entry of the area would let the child's store through to the frame that the parent still uses.  The parent
# does the same while the child waits in a pipe, and its entry is one that was written before.  A third process makes a
# page read-only that it has just written, which is nobody else's: its next store must not get through.
#
# Faults at page: user write not-present -> demand-zero; user write protection -> cow-copy, twice; at own: user write
# not-present -> demand-zero; user write protection -> sigsegv.

        .include "linux.inc"

        .globl  _start
_start:
        mov     dword ptr [page], 7
        fork_to child
        expect_exit 8, 1
        expect_at page, 7, 2
        sys     pipe, "offset ends"
        expect  eax, 0, 3
        fork_to witness
        call    close_and_open
        mov     dword ptr [page], 9
        sys     write, [ends+4], "offset ends", 1
        expect_exit 7, 4
        fork_to writer
        expect_killed SIGSEGV, 5
        say     "cow-mprotect: writable again, and still shared\n"
        pass

child:  call    close_and_open
        mov     dword ptr [page], 8
        sys     exit, [page]

close_and_open:
        sys     mprotect, "offset page", PAGE, PROT_READ
        expect  eax, 0, 100
        sys     mprotect, "offset page", PAGE, PROT_READ|PROT_WRITE
        expect  eax, 0, 101
        ret

# leaves with what was in the page when the parent forked
witness:
        sys     read, [ends], "offset got", 1
        expect  eax, 1, 102
        sys     exit, [page]

writer: mov     dword ptr [own], 1
        sys     mprotect, "offset own", PAGE, PROT_READ
        expect  eax, 0, 103
        mov     dword ptr [own], 2
        sys     exit, 104

        .bss
ends:   .skip   8
got:    .skip   1
        .balign PAGE
page:   .skip   PAGE
own:    .skip   PAGE
