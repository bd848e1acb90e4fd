# One CPU stores an entry of two words while the other one uses it.
#
#   main                              thread (CLONE_VM, on the other CPU)
#   word 0 of page n := n + 1         word 1 of page n := n + 1
#   ... the first half of the pages has no entry before; the second half was read, so that its entries name the
#   zero page, which lies low, and are present
#
# Under PAE the frames that come lie above 4 GB: the entry's upper word is not 0.  A CPU that walks between the two
# stores must not find an entry that is present with the upper word of before (MM 17): it would store to another frame,
# 4 GB lower.  --break pae-low-first stores in that order.  Then both words of every page are looked at.

        .include "linux.inc"

        .set    PAGES, 16
        .set    CLONE_THREAD_FLAGS, 0x10F00             # VM, FS, FILES, SIGHAND, THREAD
        .set    SYS_clone, 120

        .globl  _start
_start:
        map_pages PAGES
        mov     [area], eax
        lea     edi, [eax+PAGES/2*PAGE]
        mov     ecx, PAGES/2
1:      cmp     byte ptr [edi], 0                       # the zero page comes
        jne     wrong
        add     edi, PAGE
        loop    1b

        sys     clone, CLONE_THREAD_FLAGS, "offset stack_end", 0, 0, 0
        test    eax, eax
        jz      thread

        xor     esi, esi
        mov     edi, [area]
2:      lea     eax, [esi+1]
        mov     [main_at], eax                          # page esi: I am here
3:      pause
        cmp     [thread_at], eax
        jb      3b
        mov     [edi], eax
        add     edi, PAGE
        inc     esi
        cmp     esi, PAGES
        jb      2b
4:      pause
        cmp     dword ptr [thread_at], PAGES+1          # it has stored everything
        jb      4b

        xor     esi, esi
        mov     edi, [area]
5:      inc     esi
        expect  [edi], esi, 3                           # what main stored
        expect  [edi+4], esi, 4                         # what the thread stored
        xor     eax, eax
        expect  [edi+8], eax, 5                         # what nobody stored
        add     edi, PAGE
        cmp     esi, PAGES
        jb      5b
        say     "torn-entry: every store came to its page\n"
        sys     exit_group, 0

thread: xor     esi, esi
        mov     edi, [area]
6:      lea     eax, [esi+1]
        mov     [thread_at], eax
7:      pause
        cmp     [main_at], eax
        jb      7b
        mov     [edi+4], eax
        add     edi, PAGE
        inc     esi
        cmp     esi, PAGES
        jb      6b
        inc     dword ptr [thread_at]
        sys     exit, 0

wrong:  sys     exit_group, 2

        .bss
        .balign PAGE
area:   .skip   4
main_at: .skip  4
thread_at: .skip 4
        .skip   8192
stack_end:
