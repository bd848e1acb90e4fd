# When delivering an exception raises another: served one after the other, or a double fault (SDM 3A, table 6-5).

        .include "rom.inc"
        .set    DIRECTORY,      0x200000
        .set    LOW_TABLE,      0x201000
        .set    USER_STACK,     0x1A0000
        .set    BAD_STACK,      0x380000
        .set    SECRET,         0x300000

main:
        mov     [main_stack], esp
        mov     edi, DIRECTORY
        mov     ecx, 2
        call    clear
        mov     dword ptr [DIRECTORY], LOW_TABLE | P | RW | US
        mov     ecx, 1024
1:      lea     eax, [ecx - 1]
        shl     eax, 12
        or      eax, P | RW | US
        mov     [LOW_TABLE + ecx*4 - 4], eax
        loop    1b
        and     dword ptr [LOW_TABLE + (SECRET >> 12)*4], ~US
        mov     dword ptr [LOW_TABLE + (BAD_STACK >> 12)*4 - 4], 0
        mov     eax, DIRECTORY
        mov     cr3, eax
        mov     eax, cr0
        or      eax, CR0_PG
        mov     cr0, eax

# A benign exception whose gate is not present: #NP is delivered for itself.
        gate    11, on_not_present
        gate    8, on_double
        gate    6, unexpected, 0x0E00
        mov     dword ptr [back], offset second
        mov     dword ptr [expected], 6*8 + 2 + 1
        ud2
        mov     al, 1
        jmp     exit

# A contributory one, divide error: the same #NP makes a double fault.
second: say     "#UD, gate not present: #NP with IDT and EXT"
        gate    0, unexpected, 0x0E00
        mov     dword ptr [back], offset third
        xor     ecx, ecx
        xor     edx, edx
        div     ecx
        mov     al, 2
        jmp     exit

# The same absent gate by INT: nothing but #NP, and EXT is clear, for the program asked for it.
third:  say     "#DE, gate not present: #DF"
        mov     dword ptr [back], offset fourth
        mov     dword ptr [expected], 0*8 + 2
        int     0
        mov     al, 8
        jmp     exit

# A page fault counts as contributory does: with #NP it makes a double fault.
fourth: say     "INT 0, gate not present: #NP, EXT clear"
        gate    14, unexpected, 0x0E00
        mov     dword ptr [back], offset fifth
        mov     eax, [BAD_STACK - 0x1000]
        mov     al, 9
        jmp     exit

# A page fault from ring 3 into a handler of ring 1 whose stack is not mapped: the push faults, a double fault,
# which ring 0 takes on its own stack.
fifth:  say     "#PF, gate not present: #DF"
        mov     eax, cr2
        cmp     eax, BAD_STACK - 0x1000
        fail_if ne, 10
        gate    14, unexpected
        mov     word ptr [idt + 14*8 + 2], RING1_CS
        mov     dword ptr [tss + 12], BAD_STACK
        mov     dword ptr [back], offset sixth
        push    USER_DS
        push    USER_STACK
        push    2
        push    USER_CS
        push    offset in_user
        iretd
in_user:
        mov     eax, ss:[SECRET]
        mov     al, 3
        jmp     exit

sixth:  mov     eax, KERNEL_DS
        mov     ds, eax
        mov     es, eax
        mov     eax, cr2
        cmp     eax, BAD_STACK - 4
        fail_if ne, 4
        cmp     dword ptr [double_esp], RING0_STACK - 6*4
        fail_if ne, 5
        say     "#PF whose frame cannot be pushed: #DF, CR2 is the stack's, on ring 0's stack"
        xor     eax, eax
        ret

on_not_present:
        pop     eax
        cmp     eax, [expected]
        fail_if ne, 6
        mov     esp, [main_stack]
        jmp     [back]

on_double:
        mov     eax, KERNEL_DS
        mov     ds, eax
        mov     [double_esp], esp
        pop     eax
        test    eax, eax
        fail_if nz, 7
        mov     esp, [main_stack]
        jmp     [back]

        .data
main_stack: .long 0
back:   .long   0
expected: .long 0
double_esp: .long 0
