# Makes the system calls of a table, one after the other, and writes down what each gave.
#
# A row is seven words: the number in EAX, then EBX, ECX, EDX, ESI, EDI, EBP; a number of -1 ends the table.  The results
# and the scratch page that calls may fill go to standard output at the end, so that two kernels can be compared.

        .include "linux.inc"

        .set    TABLE, 0x30000000
        .set    ROOM, 0x40000
        .set    RESULTS, 0x30100000
        .set    SCRATCH, 0x30200000         # what calls fill: a slot of 64 bytes for each row

        .globl  _start
_start:
        sys     mmap2, TABLE, ROOM, 3, 0x32, -1, 0
        sys     mmap2, RESULTS, ROOM, 3, 0x32, -1, 0
        sys     mmap2, SCRATCH, ROOM, 3, 0x32, -1, 0
        mov     edi, TABLE
1:      sys     read, 0, edi, 65536
        add     edi, eax
        test    eax, eax
        jg      1b

        push    RESULTS
        push    TABLE
next:   mov     eax, [esp]
        cmp     dword ptr [eax], -1
        je      done
        mov     ebx, [eax+4]
        mov     ecx, [eax+8]
        mov     edx, [eax+12]
        mov     esi, [eax+16]
        mov     edi, [eax+20]
        mov     ebp, [eax+24]
        mov     eax, [eax]
        int     0x80
        mov     edx, [esp+4]
        mov     [edx], eax
        add     dword ptr [esp+4], 4
        add     dword ptr [esp], 28
        jmp     next
done:   mov     edi, [esp+4]
        sub     edi, RESULTS
        sys     write, 1, RESULTS, edi
        shl     edi, 4                      # 64 bytes for 4
        sys     write, 1, SCRATCH, edi
        pass
