# Virtual-8086 mode: in by IRET, out through a gate, which saves the data segments too and clears them.

        .include "rom.inc"
        .set    DIRECTORY,      0x200000
        .set    TABLE,          0x201000
        .set    CODE,           0x20000         # 2000:0000
        .set    VM,             0x20000
        .set    IOPL3,          0x3000

main:
        mov     edi, DIRECTORY
        mov     ecx, 2
        call    clear
        mov     dword ptr [DIRECTORY], TABLE | P | RW | US
        mov     ecx, 1024
1:      lea     eax, [ecx - 1]
        shl     eax, 12
        or      eax, P | RW | US
        mov     [TABLE + ecx*4 - 4], eax
        loop    1b
        mov     eax, DIRECTORY
        mov     cr3, eax
        mov     eax, cr0
        or      eax, CR0_PG
        mov     cr0, eax
        mov     esi, offset real_code
        mov     edi, CODE
        mov     ecx, offset real_code_end - real_code
        rep movsb
        gate    13, on_protection
        gate    0x21, on_service, USER_GATE

        push    0x6666                          # GS, FS, DS, ES
        push    0x5555
        push    0x2000
        push    0x4444
        push    0x3000                          # SS:ESP
        push    0x0100
        push    VM | 2
        push    0x2000
        push    0
        iretd

# Assembled for 16 bits, run at 2000:0000: with IOPL 0 the INT is a #GP.
        .code16
real_code:
        mov     ax, 0x1234
        push    ax
        mov     word ptr [data16 - real_code], ax
int21:  int     0x21
        hlt
data16: .word   0
real_code_end:
        .code32

        .macro  frame_is offset, value, status
        cmp     dword ptr [esp + \offset], \value
        fail_if ne, \status
        .endm

        .macro  segments_are_null status
        xor     ecx, ecx
        mov     cx, ds
        mov     edx, ecx
        mov     cx, es
        or      edx, ecx
        mov     cx, fs
        or      edx, ecx
        mov     cx, gs
        or      edx, ecx
        mov     ecx, KERNEL_DS
        mov     ds, ecx
        mov     es, ecx
        test    edx, edx
        fail_if nz, \status
        .endm

on_protection:
        segments_are_null 1
        cmp     esp, RING0_STACK - 10*4
        fail_if ne, 2
        frame_is 0, 0, 3
        frame_is 4, (int21-real_code), 4
        frame_is 8, 0x2000, 5
        test    dword ptr [esp + 12], VM
        fail_if z, 6
        frame_is 16, 0x00FE, 7
        frame_is 20, 0x3000, 8
        frame_is 24, 0x4444, 9
        frame_is 28, 0x2000, 10
        frame_is 32, 0x5555, 11
        frame_is 36, 0x6666, 12
        cmp     word ptr [CODE + data16 - real_code], 0x1234
        fail_if ne, 13
        cmp     word ptr [0x300FE], 0x1234
        fail_if ne, 14
        say     "INT in virtual-8086 mode with IOPL 0: #GP(0), nine words and the code, null segments"
        add     esp, 4
        or      dword ptr [esp + 8], IOPL3
        iretd

on_service:
        segments_are_null 15
        cmp     esp, RING0_STACK - 9*4
        fail_if ne, 16
        frame_is 0, (int21-real_code+2), 17
        pushfd
        pop     eax
        test    eax, VM
        fail_if nz, 18
        say     "with IOPL 3: straight through the gate"
        xor     eax, eax
        jmp     exit
