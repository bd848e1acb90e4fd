# Exceptions and interrupts from ring 3: the gate's privilege, the stack from the TSS, the frame, the error code.

        .include "rom.inc"
        .set    DIRECTORY,      0x200000
        .set    LOW_TABLE,      0x201000
        .set    USER_STACK,     0x1A0000
        .set    SECRET,         0x300000

main:
        no_ticks
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
        mov     eax, DIRECTORY
        mov     cr3, eax
        mov     eax, cr0
        or      eax, CR0_PG
        mov     cr0, eax
        gate    0x30, on_call, USER_GATE
        gate    0x31, unexpected
        gate    13, on_protection
        gate    14, on_page_fault
        gate    6, on_invalid, TRAP_GATE

        push    USER_DS
        push    USER_STACK
        push    0x202
        push    USER_CS
        push    offset in_user
        iretd

in_user:
        mov     eax, USER_DS
        mov     ds, eax
        mov     es, eax
        mov     esi, 0x5EED
        int     0x30
after_call:
        cmp     esi, 0x5EEE
        mov     eax, 20
        jne     user_exit
# a gate that ring 3 may not call
denied: int     0x31
# a page that ring 3 may not read
user_read:
        mov     eax, [SECRET]
after_read:
# an invalid opcode, through a trap gate: IF stays
user_invalid:
        ud2
        mov     eax, 0
user_exit:
        mov     dword ptr [user_status], eax
        int     0x30
1:      jmp     1b

# check_frame: the five words at ebx are eip (eax), cs, eflags, esp, ss of ring 3; edi is the status to fail with
check_frame:
        cmp     [ebx], eax
        jne     9f
        cmp     word ptr [ebx + 4], USER_CS
        jne     9f
        mov     eax, [ebx + 8]
        test    eax, 0x200
        jz      9f
        cmp     dword ptr [ebx + 12], USER_STACK
        jne     9f
        cmp     word ptr [ebx + 16], USER_DS
        jne     9f
        ret
9:      mov     eax, edi
        jmp     exit

        .macro  enter_kernel words, status
        cmp     esp, RING0_STACK - \words*4
        mov     eax, \status
        jne     exit
        mov     ax, cs
        cmp     ax, KERNEL_CS
        mov     eax, \status + 1
        jne     exit
        pushfd
        pop     edx
        .endm

on_call:
        cmp     dword ptr [user_status], 0
        jne     finished
        cmp     dword ptr [faults], 3
        je      finished
        enter_kernel 5, 1
        test    edx, 0x200                      # an interrupt gate clears IF
        fail_if nz, 3
        mov     ebx, esp
        mov     eax, offset after_call
        mov     edi, 4
        call    check_frame
        say     "INT 0x30 from ring 3: on the TSS's stack, five words, IF clear"
        inc     esi
        iretd

on_protection:
        inc     dword ptr [faults]
        enter_kernel 6, 5
        cmp     dword ptr [esp], 0x31*8 + 2     # the IDT's entry 0x31
        fail_if ne, 7
        lea     ebx, [esp + 4]
        mov     eax, offset denied
        mov     edi, 8
        call    check_frame
        say     "INT 0x31, whose gate is ring 0's: #GP with the IDT index, at the instruction"
        add     esp, 4
        add     dword ptr [esp], 2
        iretd

on_page_fault:
        inc     dword ptr [faults]
        enter_kernel 6, 9
        cmp     dword ptr [esp], 5
        fail_if ne, 11
        mov     eax, cr2
        cmp     eax, SECRET
        fail_if ne, 12
        lea     ebx, [esp + 4]
        mov     eax, offset user_read
        mov     edi, 13
        call    check_frame
        say     "a supervisor page: #PF, user read protection, and CR2"
        add     esp, 4
        mov     dword ptr [esp], offset after_read
        iretd

on_invalid:
        inc     dword ptr [faults]
        enter_kernel 5, 14
        test    edx, 0x200                      # a trap gate leaves IF
        fail_if z, 16
        mov     ebx, esp
        mov     eax, offset user_invalid
        mov     edi, 17
        call    check_frame
        say     "#UD through a trap gate: no error code, IF as it was"
        add     dword ptr [esp], 2
        iretd

finished:
        mov     eax, [user_status]
        jmp     exit

        .data
user_status: .long 0
faults: .long   0
