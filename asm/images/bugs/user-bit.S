# A page of ring 3: its table entry allows the program everything, and the program dies all the same.
#
# It is made to be debugged: docs/tutorial-debug.md finds out what is wrong.  An identity map of the first 4 MB lets
# supervisor and user run where they were loaded; `counter` of the program is mapped at COUNTER, in another 4 MB.

        .include "rom.inc"
        .set    DIRECTORY,      0x200000
        .set    LOW_TABLE,      0x201000
        .set    USER_TABLE,     0x202000
        .set    FRAME,          0x300000
        .set    COUNTER,        0x40000000
        .set    USER_STACK,     0x1A0000
        .set    ENTRIES,        1024

main:
        no_ticks
        call    build_tables
        mov     eax, DIRECTORY
        mov     cr3, eax
        mov     eax, cr0
        or      eax, CR0_PG
        mov     cr0, eax
        gate    14, on_page_fault
        gate    0x30, on_exit, USER_GATE
        push    USER_DS
        push    USER_STACK
        push    0x202
        push    USER_CS
        push    offset program
        iretd

# map_page: the page at linear address edi is frame eax (an address); esi is its table.  Changes eax, edx.
map_page:
        or      eax, P | RW | US
        mov     edx, edi
        shr     edx, 12
        and     edx, ENTRIES - 1
        mov     [esi + edx*4], eax
        mov     eax, esi
        or      eax, P | RW
        mov     edx, edi
        shr     edx, 22
        or      [DIRECTORY + edx*4], eax
        ret

build_tables:
        mov     edi, DIRECTORY
        mov     ecx, 3
        call    clear
        mov     dword ptr [DIRECTORY], P | RW | US
        xor     edi, edi
        mov     esi, LOW_TABLE
1:      mov     eax, edi
        call    map_page
        add     edi, 0x1000
        cmp     edi, ENTRIES * 0x1000
        jb      1b
        mov     edi, COUNTER
        mov     esi, USER_TABLE
        mov     eax, FRAME
        jmp     map_page

# The program, in ring 3: it counts to a thousand.
program:
        mov     eax, USER_DS
        mov     ds, eax
        mov     ecx, 1000
1:      inc     dword ptr [COUNTER]
        loop    1b
        int     0x30

on_exit:
        mov     eax, KERNEL_DS
        mov     ds, eax
        cmp     dword ptr [COUNTER], 1000
        fail_if ne, 2
        say     "the program has counted to 1000"
        xor     eax, eax
        jmp     exit

# A page fault has no answer here: the error code and the address, and the end.
on_page_fault:
        mov     eax, KERNEL_DS
        mov     ds, eax
        say     "page fault: error code, address, instruction"
        pop     eax
        call    put_hex
        mov     eax, cr2
        call    put_hex
        pop     eax
        call    put_hex
        mov     al, 1
        jmp     exit
