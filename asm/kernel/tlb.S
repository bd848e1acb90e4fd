# Translations are invalidated by instructions, never from outside.

        .intel_syntax noprefix
        .text

# eax: linear address
        .globl  invlpg
invlpg:
        invlpg  [eax]
        ret

# edi: first linear address, ecx: pages (at least one)
        .globl  invlpg_range
invlpg_range:
        invlpg  [edi]
        add     edi, 4096
        dec     ecx
        jnz     invlpg_range
        ret

# eax: CR3 of the next address space.  Global pages stay.
        .globl  load_cr3
load_cr3:
        mov     cr3, eax
        ret

        .globl  flush_tlb
flush_tlb:
        mov     eax, cr3
        mov     cr3, eax
        ret

# Global pages too: SDM 3A 4.10.4.1, a change of CR4.PGE empties the whole TLB.
        .globl  flush_tlb_all
flush_tlb_all:
        mov     eax, cr4
        mov     edx, eax
        and     edx, ~0x80
        mov     cr4, edx
        mov     cr4, eax
        mov     eax, cr3
        mov     cr3, eax
        ret

# Load the thread-local segment descriptor's selector that the task uses: eax is the selector.
        .globl  load_gs
load_gs:
        mov     gs, ax
        ret

        .section .note.GNU-stack,"",@progbits
