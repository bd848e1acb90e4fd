# Ports from ring 3: IOPL, and behind it the bitmap in the TSS.

        .include "rom.inc"
        .set    USER_STACK,     0x1A0000
        .set    IOPL3,          0x3000
        .set    BYTES_END,      0x2F7           # its bit is the last of a byte of the bitmap

main:
        and     byte ptr [io_map + (SERIAL >> 3)], ~1   # the serial port's first register, no other
        and     byte ptr [io_map + (BYTES_END >> 3)], 0x7F
        gate    13, on_protection
        gate    0x30, on_done, USER_GATE
        push    USER_DS
        push    USER_STACK
        push    2
        push    USER_CS
        push    offset in_user
        iretd

in_user:
        mov     eax, USER_DS
        mov     ds, eax
        mov     es, eax
        say     "ring 3 writes to the port that its bitmap opens"
        mov     dword ptr [denied_at], offset first
        mov     dx, SERIAL + 7
        mov     al, '!'
first:  out     dx, al
        cmp     dword ptr [denials], 1
        mov     eax, 1
        jne     user_exit
        say     "the next port: #GP"
        mov     dword ptr [denied_at], offset second
        mov     dx, SERIAL
        mov     ax, 0x2121
second: out     dx, ax
        nop
        cmp     dword ptr [denials], 2
        mov     eax, 2
        jne     user_exit
        say     "two bytes, one of them closed: #GP"
        mov     dx, BYTES_END
        in      al, dx
        cmp     dword ptr [denials], 2
        mov     eax, 5
        jne     user_exit
        mov     dword ptr [denied_at], offset across
across: in      ax, dx
        nop
        cmp     dword ptr [denials], 3
        mov     eax, 6
        jne     user_exit
        say     "two bytes, the closed one in the bitmap's next byte: #GP"
        mov     dword ptr [denied_at], offset third
        mov     dx, 0xFFFF
third:  in      al, dx
        cmp     dword ptr [denials], 4
        mov     eax, 3
        jne     user_exit
        say     "behind the bitmap's end: #GP"
        xor     eax, eax
user_exit:
        mov     [status], eax
        int     0x30

# Go on behind the instruction, with IOPL 3 the third time but one: then nothing is asked.
on_protection:
        push    eax
        push    ecx
        cmp     dword ptr [esp + 8], 0
        fail_if ne, 10
        mov     ecx, [esp + 12]
        cmp     ecx, [denied_at]
        fail_if ne, 11
        inc     dword ptr [denials]
        inc     dword ptr [esp + 12]
        cmp     ecx, offset second
        je      3f
        cmp     ecx, offset across
        jne     1f
3:      inc     dword ptr [esp + 12]
1:      pop     ecx
        pop     eax
        add     esp, 4
        iretd

on_done:
        cmp     dword ptr [status], 0
        mov     eax, [status]
        jne     exit
        cmp     dword ptr [open], 0
        jne     2f
        inc     dword ptr [open]
        or      dword ptr [esp + 8], IOPL3
        mov     dword ptr [esp], offset with_iopl
        iretd
2:      xor     eax, eax
        jmp     exit

with_iopl:
        mov     dx, SERIAL + 7
        mov     al, 0x5A
        out     dx, al
        in      al, dx
        cmp     al, 0x5A
        mov     eax, 4
        jne     user_exit
        say     "with IOPL 3 every port is open"
        xor     eax, eax
        jmp     user_exit

        .data
denied_at: .long 0
denials: .long  0
status: .long   0
open:   .long   0
