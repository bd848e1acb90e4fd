# The sole owner keeps its page: do_wp_page copies only what somebody else still uses.
#
# 16 pages are written, then a child is forked that ends without a store to them.  The fork made every entry read-only,
# in the parent too, so each of the parent's stores faults once more; but by then each frame has one user again, and
# opening the entry is enough.  Not one page may be copied.
#
# Faults at pages, pages+0x1000, ...: user write protection -> cow-reuse.

        .include "linux.inc"

        .set    PAGES, 16

        .globl  _start
_start:
        mov     eax, 1
        call    store_all
        fork_to child
        expect_exit 0, 1
        mov     eax, 2
        call    store_all
        say     "cow-reuse: 16 pages written again, none copied\n"
        pass

# eax: the word for every page, and what must have been there is one less
store_all:
        mov     edi, offset pages
        mov     ecx, PAGES
        lea     edx, [eax-1]
1:      expect  [edi], edx, 2
        mov     [edi], eax
        add     edi, PAGE
        loop    1b
        ret

child:  pass

        .bss
        .balign PAGE
pages:  .skip   PAGES*PAGE
