# Self-modifying code: the CPU runs what is in memory now, not what it has decoded before.
#
# A function of two instructions, `mov eax, imm32; ret`, is put into a new page.  Its immediate is patched and it is
# called, 200 times.  Then a loop patches the instruction right behind the store.  At last the page is made read-only
# and executable, as W^X has it: now patching is fatal, and the function still works.  The child that dies of it has patched
# a copy of its own before, and closed it again.
#
# Faults at 0x20000000: user write not-present -> demand-zero; user write protection -> sigsegv (the child).

        .include "linux.inc"

        .set    HERE, 0x20000000

# eax: the sum of 1 to 8, each number by way of a patched immediate
patcher:
        xor     eax, eax
        mov     ecx, 1
2:      mov     [HERE+0x100+(patched+1-patcher)], ecx
patched:                                    # fetched already, and run as it is after the store
        mov     edx, 0
        add     eax, edx
        inc     ecx
        cmp     ecx, 8
        jbe     2b
        ret
        .set    PATCHER_SIZE, . - patcher

        .globl  _start
_start:
        map_pages 1, HERE, PROT_READ|PROT_WRITE|PROT_EXEC, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED
        expect  eax, HERE, 1

        mov     edi, HERE
        mov     byte ptr [edi], 0xB8        # mov eax, imm32
        mov     byte ptr [edi+5], 0xC3      # ret
        mov     esi, 200
1:      mov     [edi+1], esi
        call    edi
        expect  eax, esi, 2
        dec     esi
        jnz     1b

        mov     esi, offset patcher         # the loop has to run where it may write
        mov     edi, HERE+0x100
        mov     ecx, PATCHER_SIZE
        rep     movsb
        mov     eax, HERE+0x100
        call    eax
        expect  eax, 1+2+3+4+5+6+7+8, 3

        sys     mprotect, HERE, PAGE, PROT_READ|PROT_EXEC
        expect  eax, 0, 4
        fork_to child
        expect_killed SIGSEGV, 5
        mov     edi, HERE
        call    edi
        expect  eax, 1, 6
        say     "self-modify: 200 patches from outside, 8 from within\n"
        pass

child:  sys     mprotect, HERE, PAGE, PROT_READ|PROT_WRITE|PROT_EXEC
        expect  eax, 0, 101
        mov     edi, HERE
        mov     byte ptr [HERE+1], 7
        call    edi
        expect  eax, 7, 102
        sys     mprotect, HERE, PAGE, PROT_READ|PROT_EXEC
        expect  eax, 0, 103
        call    edi
        expect  eax, 7, 104
        mov     byte ptr [HERE+1], 0
        sys     exit, 100
