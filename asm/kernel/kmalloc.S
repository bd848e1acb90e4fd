# kmalloc and kfree, with C arguments (MM 3).  Python says which area serves and which one leaves; the blocks' headers,
# the free list and the page descriptor are read and written here.
#
#   area:   +0 next (unused)   +4 firstfree   +8 order   +12 nfree      16 bytes, at the start of a page
#   block:  +0 flag            +4 length, or the next free block        8 bytes, then what kmalloc returns

        .intel_syntax noprefix
        .include "kernel.inc"
        .text

        .set    MF_USED, 0xFFAA0055
        .set    MF_FREE, 0x0055FFAA
        .set    MF_DMA,  0xFF00AA55

# void *kmalloc(size, priority).  Python answers in eax: 0 for none, 1 for the slab policy (edx is the object),
# else the area; edx is 1 for DMA.  Interrupts are off while an area is looked at and changed.
        .globl  kmalloc
kmalloc:
        pushfd
        cli
        mov     eax, GATE_KMALLOC
        int     0xF0
        cmp     eax, 1
        jb      9f
        je      8f
        push    ebx
        mov     ebx, [eax+4]
        cmp     dword ptr [ebx], MF_FREE
        jne     7f
        mov     ecx, [ebx+4]
        mov     [eax+4], ecx
        dec     dword ptr [eax+12]
        mov     dword ptr [ebx], MF_USED
        test    edx, edx
        jz      1f
        mov     dword ptr [ebx], MF_DMA
1:      mov     ecx, [esp+12]
        mov     [ebx+4], ecx
        lea     eax, [ebx+8]
        pop     ebx
9:      popfd
        ret
8:      mov     eax, edx
        popfd
        ret
# The free list leads to a block that is not free: somebody wrote over its header.
7:      mov     edx, ebx
        pop     ebx
        mov     eax, GATE_CORRUPTED
        int     0xF0
        popfd
        ret

# void kfree(ptr).  Python gets the flag word in ecx (0 where there is none to read) and answers in eax: 0 to leave
# everything as it is, else the area that the block goes back to.
        .globl  kfree
kfree:
        pushfd
        cli
        mov     edx, [esp+8]
        xor     ecx, ecx
1:      mov     ecx, [edx-8]
2:      mov     eax, GATE_KFREE
        int     0xF0
        test    eax, eax
        jz      9b
        mov     edx, [esp+8]
        sub     edx, 8
        mov     ecx, [eax+4]
        mov     dword ptr [edx], MF_FREE
        mov     [edx+4], ecx
        mov     [eax+4], edx
        inc     dword ptr [eax+12]
        popfd
        ret
        ex_table 1b, 2b

# edi: a fresh area, eax: block size in bytes with its header, ecx: blocks, edx: order.  All blocks become free.
        .globl  kmalloc_format
kmalloc_format:
        mov     dword ptr [edi], 0
        mov     [edi+8], edx
        mov     [edi+12], ecx
        lea     edx, [edi+16]
        mov     [edi+4], edx
1:      mov     dword ptr [edx], MF_FREE
        lea     esi, [edx+eax]
        dec     ecx
        jnz     2f
        xor     esi, esi
2:      mov     [edx+4], esi
        mov     edx, esi
        test    esi, esi
        jnz     1b
        ret

        .section .note.GNU-stack,"",@progbits
