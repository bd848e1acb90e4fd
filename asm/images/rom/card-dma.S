# A memory-mapped card: registers, its own memory, its interrupt, and DMA that changes code under the CPU.

        .include "rom.inc"
        .set    CARD,           0x80000000
        .set    CARD_ID,        CARD
        .set    CARD_SIZE,      CARD + 0x08
        .set    CARD_STATUS,    CARD + 0x0C
        .set    CARD_VECTOR,    CARD + 0x10
        .set    CARD_DOORBELL,  CARD + 0x14
        .set    CARD_RUNG,      CARD + 0x18
        .set    CARD_ADDRESS,   CARD + 0x20
        .set    CARD_LENGTH,    CARD + 0x28
        .set    CARD_PATTERN,   CARD + 0x2C
        .set    CARD_OFFSET,    CARD + 0x30
        .set    CARD_COMMAND,   CARD + 0x34
        .set    CARD_NOWHERE,   CARD + 0x80
        .set    CARD_MEMORY,    CARD + 0x100000
        .set    BUFFER,         0x300000

main:
        cmp     dword ptr [CARD_ID], 0x44524143
        fail_if ne, 1
        cmp     byte ptr [CARD_ID + 1], 'A'
        fail_if ne, 2
        cmp     dword ptr [CARD_SIZE], 0x100000
        fail_if ne, 3
        cmp     dword ptr [CARD_NOWHERE], -1
        fail_if ne, 4
        say     "the card answers, and does not where it has nothing"

        mov     esi, offset rom_entry
        mov     edi, CARD_MEMORY + 0xFF000
        mov     ecx, 1024
        rep movsd
        mov     esi, offset rom_entry
        mov     edi, CARD_MEMORY + 0xFF000
        mov     ecx, 1024
        repe cmpsd
        fail_if ne, 5
        say     "a page to card memory and back"

        gate    0x50, on_bell
        mov     dword ptr [CARD_VECTOR], 0x50
        sti
        mov     dword ptr [CARD_DOORBELL], 77
        mov     ecx, 100
1:      loop    1b
        cli
        cmp     dword ptr [bells], 77
        fail_if ne, 6
        say     "the doorbell's interrupt"

        call    routine
        cmp     al, 1
        fail_if ne, 7
        mov     dword ptr [CARD_ADDRESS], offset routine
        mov     dword ptr [CARD_LENGTH], 4
        mov     dword ptr [CARD_PATTERN], 0x90C302B0    # mov al, 2; ret; nop
        mov     dword ptr [CARD_COMMAND], 1
        mov     ecx, 100
2:      loop    2b
        cmp     dword ptr [CARD_STATUS], 1
        fail_if ne, 8
        call    routine
        cmp     al, 2
        fail_if ne, 9
        say     "DMA replaced a routine"

        mov     dword ptr [CARD_ADDRESS], BUFFER
        mov     dword ptr [CARD_LENGTH], 0x1000
        mov     dword ptr [CARD_OFFSET], 0xFF000
        mov     dword ptr [CARD_COMMAND], 2
        mov     eax, [rom_entry]
        cmp     [BUFFER], eax
        fail_if ne, 10
        mov     dword ptr [CARD_STATUS], 3
        mov     dword ptr [CARD_ADDRESS], 0x0200FFFC    # beyond the reach of 24 address lines
        mov     dword ptr [CARD_COMMAND], 1
        cmp     dword ptr [CARD_STATUS], 3
        fail_if ne, 11
        mov     dword ptr [CARD_STATUS], 3
        mov     dword ptr [CARD_ADDRESS], 0x0030FF00    # across 64 KB
        mov     dword ptr [CARD_COMMAND], 1
        cmp     dword ptr [CARD_STATUS], 3
        fail_if ne, 12
        mov     dword ptr [CARD_STATUS], 3
        mov     dword ptr [CARD_ADDRESS], 0x0030F000    # up to the boundary
        mov     dword ptr [CARD_COMMAND], 1
        cmp     dword ptr [CARD_STATUS], 1
        fail_if ne, 13
        cmp     dword ptr [0x0030FFFC], 0x90C302B0
        fail_if ne, 14
        mov     dword ptr [CARD_STATUS], 3
        mov     dword ptr [CARD_ADDRESS], 0x01000000    # the first byte beyond, alone
        mov     dword ptr [CARD_LENGTH], 1
        mov     dword ptr [CARD_COMMAND], 1
        cmp     dword ptr [CARD_STATUS], 3
        fail_if ne, 15
        mov     dword ptr [CARD_STATUS], 1              # a one clears its own bit
        cmp     dword ptr [CARD_STATUS], 2
        fail_if ne, 16
        say     "DMA stays below 16 MB and inside 64 KB"
        xor     eax, eax
        ret

on_bell:
        push    eax
        mov     eax, [CARD_RUNG]
        add     [bells], eax
        pop     eax
        iretd

        .balign 64
routine:
        mov     al, 1
        ret
        nop
        .balign 64

        .data
bells:  .long   0
