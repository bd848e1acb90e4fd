# When an external interrupt is taken: IF, the shadow of STI, HLT, priorities and the end of interrupt.
#
# The interrupts are this CPU's own, sent to itself through the local APIC.

        .include "rom.inc"
        .set    APIC_TPR,       0xFEE00080
        .set    APIC_EOI,       0xFEE000B0
        .set    APIC_SVR,       0xFEE000F0
        .set    APIC_ICR,       0xFEE00300
        .set    SELF,           0x44000

main:
        no_ticks
        or      dword ptr [APIC_SVR], 0x100
        gate    0x41, on_low
        gate    0x61, on_high
        gate    0x62, on_same

        mov     dword ptr [APIC_ICR], SELF | 0x41
        mov     ecx, 1000
1:      loop    1b
        cmp     dword ptr [count], 0
        fail_if ne, 1
        say     "IF clear: it waits"

        sti
        cli
        mov     ecx, 1000
2:      loop    2b
        cmp     dword ptr [count], 0
        fail_if ne, 2
        say     "STI and CLI at once: no window"

        sti
        nop
window: cli
        cmp     dword ptr [count], 1
        fail_if ne, 3
        cmp     dword ptr [place], offset window
        fail_if ne, 4
        say     "STI, NOP: taken behind the NOP"

        mov     dword ptr [APIC_ICR], SELF | 0x41
        sti
        hlt
halted: cli
        cmp     dword ptr [count], 2
        fail_if ne, 5
        cmp     dword ptr [place], offset halted
        fail_if ne, 6
        say     "STI, HLT: the halted CPU wakes, and goes on behind the HLT"

        mov     dword ptr [APIC_ICR], SELF | 0x41
        mov     dword ptr [APIC_ICR], SELF | 0x61
        mov     ecx, 1000
3:      loop    3b
        mov     dword ptr [order], 0
        sti
        nop
        nop
        cli
        cmp     dword ptr [order], 0x6141
        fail_if ne, 7
        say     "two at once: the higher vector first"

        mov     dword ptr [order], 0
        mov     dword ptr [again], 1
        mov     dword ptr [APIC_ICR], SELF | 0x61
        mov     ecx, 1000
4:      loop    4b
        sti
        nop
        nop
        cli
        cmp     dword ptr [order], 0x6162
        fail_if ne, 8
        say     "while one is in service, another of its class waits for EOI"

        gate    0x42, on_outer
        gate    0x63, on_inner
        gate    0x51, on_between
        mov     dword ptr [order], 0
        mov     dword ptr [APIC_ICR], SELF | 0x42
        mov     ecx, 1000
7:      loop    7b
        sti
        nop
        nop
        cli
        cmp     dword ptr [order], 0x42635101
        fail_if ne, 9
        say     "EOI ends the highest in service: what is between the two comes at once"

        mov     dword ptr [count], 0
        mov     dword ptr [APIC_TPR], 0x40      # 41 is of this class
        mov     dword ptr [APIC_ICR], SELF | 0x41
        mov     ecx, 1000
8:      loop    8b
        sti
        mov     ecx, 1000
9:      loop    9b
        cmp     dword ptr [count], 0
        fail_if ne, 10
        mov     dword ptr [APIC_TPR], 0x3F
        mov     ecx, 1000
10:     loop    10b
        cli
        cmp     dword ptr [count], 1
        fail_if ne, 11
        say     "the task priority holds its class back, and lets it come when it falls"
        xor     eax, eax
        ret

        .macro  note vector
        shl     dword ptr [order], 8
        or      dword ptr [order], \vector
        .endm

on_low:
        push    eax
        mov     eax, [esp + 4]
        mov     [place], eax
        inc     dword ptr [count]
        note    0x41
        mov     dword ptr [APIC_EOI], 0
        pop     eax
        iretd

on_high:
        cmp     dword ptr [again], 0
        je      1f
        push    ecx
        mov     dword ptr [APIC_ICR], SELF | 0x62
        sti
        mov     ecx, 1000
2:      loop    2b
        cli
        pop     ecx
1:      note    0x61
        mov     dword ptr [APIC_EOI], 0
        iretd

on_same:
        note    0x62
        mov     dword ptr [APIC_EOI], 0
        iretd

# 42 is interrupted by 63, which ends; then 51 is above what is in service, and comes before this one's end, 01.
on_outer:
        push    ecx
        note    0x42
        mov     dword ptr [APIC_ICR], SELF | 0x63
        sti
        mov     ecx, 1000
5:      loop    5b
        mov     dword ptr [APIC_ICR], SELF | 0x51
        mov     ecx, 1000
6:      loop    6b
        cli
        note    0x01
        mov     dword ptr [APIC_EOI], 0
        pop     ecx
        iretd

on_inner:
        note    0x63
        mov     dword ptr [APIC_EOI], 0
        iretd

on_between:
        note    0x51
        mov     dword ptr [APIC_EOI], 0
        iretd

        .data
count:  .long   0
place:  .long   0
order:  .long   0
again:  .long   0
