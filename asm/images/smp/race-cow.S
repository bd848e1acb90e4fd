# Two threads break the sharing of the same page at the same moment.
#
#   main                              thread (CLONE_VM, on the other CPU)
#   fork: every page is shared
#   waits for the thread              waits for main
#   word 0 of page n := n             word 1 of page n := n
#   ... 64 pages, then both words of every page are looked at
#
# Each store faults, and each fault copies the page.  Who copied first and enters his copy last would take the other's
# page away, and the word that was stored to it: so do_wp_page enters a copy only over the entry that it copied for
# (pte_same, 2.4).  --seeds finds it where the kernel is told not to look (--break no-pte-same).

        .include "linux.inc"

        .set    PAGES, 64
        .set    SYS_clone, 120
        .set    SYS_kill, 37
        .set    CLONE_THREAD_FLAGS, 0x10F00             # VM, FS, FILES, SIGHAND, THREAD

        .globl  _start
_start:
        map_pages PAGES
        mov     [area], eax
        mov     edi, eax
        mov     ecx, PAGES
1:      mov     dword ptr [edi], -1
        mov     dword ptr [edi+4], -1
        add     edi, PAGE
        loop    1b

        fork_to child                                   # it keeps every page shared, and does nothing
        mov     [child_pid], eax
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
        mov     [edi], esi
        add     edi, PAGE
        inc     esi
        cmp     esi, PAGES
        jb      2b
4:      pause
        cmp     dword ptr [thread_at], PAGES+1          # it has stored everything
        jb      4b

        sys     kill, [child_pid], SIGKILL
        expect_killed SIGKILL, 2
        xor     esi, esi
        mov     edi, [area]
5:      expect  [edi], esi, 3                           # what main stored
        expect  [edi+4], esi, 4                         # what the thread stored
        add     edi, PAGE
        inc     esi
        cmp     esi, PAGES
        jb      5b
        say     "race-cow: no store was lost\n"
        sys     exit_group, 0

thread: xor     esi, esi
        mov     edi, [area]
6:      lea     eax, [esi+1]
        mov     [thread_at], eax
7:      pause
        cmp     [main_at], eax
        jb      7b
        mov     [edi+4], esi
        add     edi, PAGE
        inc     esi
        cmp     esi, PAGES
        jb      6b
        inc     dword ptr [thread_at]
        sys     exit, 0

child:  sys     nanosleep, "offset hour", 0
        jmp     child

        .section .rodata
hour:   .long   3600, 0

        .bss
        .balign PAGE
area:   .skip   4
child_pid: .skip 4
main_at: .skip  4
thread_at: .skip 4
        .skip   8192
stack_end:
