# Two CPUs, two TLBs: a changed entry is not seen by the other CPU until it is told.
#
# The manual allows the other CPU to go on with the old translation (SDM 3A, 4.10.2.3); this image wants to see that it
# does, through an interrupt too that says nothing of the change.

        .include "rom.inc"
        .include "rom-smp.inc"
        .set    DIRECTORY,      0x200000
        .set    TABLE,          0x201000
        .set    HIGH_TABLE,     0x202000
        .set    FRAME_A,        0x300000
        .set    FRAME_B,        0x301000
        .set    WINDOW,         0x40000000
        .set    FLUSH_VECTOR,   0xF0
        .set    PING_VECTOR,    0xF1

        .macro  paging_on
        mov     eax, DIRECTORY
        mov     cr3, eax
        mov     eax, cr4
        or      eax, CR4_PSE
        mov     cr4, eax
        mov     eax, cr0
        or      eax, CR0_PG
        mov     cr0, eax
        .endm

main:
        mov     edi, DIRECTORY
        mov     ecx, 3
        call    clear
        mov     dword ptr [FRAME_A], 0xAAAAAAAA
        mov     dword ptr [FRAME_B], 0xBBBBBBBB
        mov     dword ptr [DIRECTORY], P | RW | PS
        mov     dword ptr [DIRECTORY + (APIC >> 22)*4], (APIC & 0xFFC00000) | P | RW | PS | 0x10
        mov     dword ptr [DIRECTORY + (WINDOW >> 22)*4], TABLE | P | RW
        mov     dword ptr [TABLE], FRAME_A | P | RW
        gate    FLUSH_VECTOR, on_flush
        gate    PING_VECTOR, on_ping
        paging_on
        call    start_other
        wait_until rounds, 10, ae, 1
        cmp     dword ptr [seen], 0xAAAAAAAA
        fail_if ne, 2
        say     "CPU 1 reads frame A"

        mov     dword ptr [TABLE], FRAME_B | P | RW
        invlpg  [WINDOW]
        cmp     dword ptr [WINDOW], 0xBBBBBBBB
        fail_if ne, 3
        say     "CPU 0 has changed the entry, dropped its own translation, and reads frame B"

        send    0x4000 | PING_VECTOR
        wait_until pinged, 1, e, 7
        mov     dword ptr [rounds], 0
        wait_until rounds, 10, ae, 8
        cmp     dword ptr [seen], 0xAAAAAAAA
        fail_if ne, 9
        say     "CPU 1 still reads frame A, another interrupt later too"

        send    0x4000 | FLUSH_VECTOR
        wait_until flushed, 1, e, 4
        mov     dword ptr [rounds], 0
        wait_until rounds, 10, ae, 5
        cmp     dword ptr [seen], 0xBBBBBBBB
        fail_if ne, 6
        say     "after the interrupt CPU 1 reads it too"
        xor     eax, eax
        ret

other:
        paging_on
        sti
1:      mov     eax, [WINDOW]
        mov     [seen], eax
        lock inc dword ptr [rounds]
        jmp     1b

on_ping:
        mov     dword ptr [pinged], 1
        mov     dword ptr [APIC_EOI], 0
        iretd

on_flush:
        invlpg  [WINDOW]
        mov     dword ptr [flushed], 1
        mov     dword ptr [APIC_EOI], 0
        iretd

        .data
rounds: .long   0
seen:   .long   0
flushed: .long  0
pinged: .long   0
