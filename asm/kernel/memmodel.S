# pfn_valid, pfn_to_page and page_to_pfn for the three memory models, with C arguments.  Boot stores the words.

        .intel_syntax noprefix
        .include "kernel.inc"

        .data
        .globl  mem_model, max_pfn, mem_map, mem_section, section_shift, nr_sections, vmem_map, swapper_pg_dir
        .globl  high_memory
mem_model:      .long 0         # 0 flatmem, 1 sparsemem, 2 vmemmap
max_pfn:        .long 0
mem_map:        .long 0
mem_section:    .long 0         # linear address of a word for each section
section_shift:  .long 0
nr_sections:    .long 0
vmem_map:       .long 0
swapper_pg_dir: .long 0         # physical
high_memory:    .long 0         # linear address behind the direct map

        .text

# The rule of pfn_valid that needs no look at the structure: eax is a frame number, afterwards the address of its struct
# page; to \bad when the model describes no such frame.  It changes ecx and edx.
        .macro  struct_page_of bad
        cmp     eax, [max_pfn]
        jae     \bad
        mov     edx, eax
        shl     edx, STRUCT_PAGE_SHIFT
        cmp     dword ptr [mem_model], 1
        je      .Lsparse\@
        mov     eax, [mem_map]
        jb      .Lfound\@
        mov     eax, [vmem_map]
        jmp     .Lfound\@
.Lsparse\@:
        mov     ecx, [section_shift]
        shr     eax, cl
        mov     ecx, [mem_section]
        mov     eax, [ecx+eax*4]
        test    al, 2
        jz      \bad
        and     eax, -4
.Lfound\@:
        add     eax, edx
        .endm

# int pfn_valid(pfn)
        .globl  pfn_valid
pfn_valid:
        mov     eax, [esp+4]
        struct_page_of 9f
        cmp     dword ptr [mem_model], 1
        ja      walk
8:      mov     eax, 1
        ret
9:      xor     eax, eax
        ret

# The same through the tables of swapper_pg_dir, in every model: a directory that has not heard of the virtual map's
# range yet must not make it invalid.
        .globl  pfn_valid_walk
pfn_valid_walk:
        mov     eax, [esp+4]
        struct_page_of 9b
walk:   mov     ecx, [swapper_pg_dir]
        mov     edx, cr4
        test    dl, 0x20
        jnz     1f
        mov     edx, eax
        shr     edx, 22
        mov     ecx, [ecx+edx*4+PAGE_OFFSET]
        test    cl, 1
        jz      9b
        test    cl, 0x80
        jnz     8b
        and     ecx, -4096
        shr     eax, 12
        and     eax, 1023
        mov     eax, [ecx+eax*4+PAGE_OFFSET]
        and     eax, 1
        ret
1:      mov     edx, eax
        shr     edx, 30
        mov     ecx, [ecx+edx*8+PAGE_OFFSET]
        test    cl, 1
        jz      9b
        and     ecx, -4096
        mov     edx, eax
        shr     edx, 21
        and     edx, 511
        mov     ecx, [ecx+edx*8+PAGE_OFFSET]
        test    cl, 1
        jz      9b
        test    cl, 0x80
        jnz     8b
        and     ecx, -4096
        shr     eax, 12
        and     eax, 511
        mov     eax, [ecx+eax*8+PAGE_OFFSET]
        and     eax, 1
        ret

# The same by a load that may fault, as ia64 does it.  A struct page, of a power of two bytes, never straddles two pages.
        .globl  pfn_valid_fault
pfn_valid_fault:
        mov     eax, [esp+4]
        struct_page_of 2f
1:      mov     al, [eax]
        mov     eax, 1
        ret
2:      xor     eax, eax
        ret
        ex_table 1b, 2b

# struct page *pfn_to_page(pfn): the frame number must be valid
        .globl  pfn_to_page
pfn_to_page:
        mov     eax, [esp+4]
        mov     edx, eax
        shl     edx, STRUCT_PAGE_SHIFT
        cmp     dword ptr [mem_model], 1
        ja      2f
        je      1f
        mov     eax, [mem_map]
        add     eax, edx
        ret
1:      mov     ecx, [section_shift]
        shr     eax, cl
        mov     ecx, [mem_section]
        mov     eax, [ecx+eax*4]
        and     eax, -4
        add     eax, edx
        ret
2:      mov     eax, [vmem_map]
        add     eax, edx
        ret

# pfn page_to_pfn(struct page *): -1 for what is no struct page of a section.  (Linux keeps the section's number in
# page->flags; here the sections are asked one by one.)
        .globl  page_to_pfn
page_to_pfn:
        mov     eax, [esp+4]
        cmp     dword ptr [mem_model], 1
        ja      2f
        je      3f
        sub     eax, [mem_map]
        shr     eax, STRUCT_PAGE_SHIFT
        ret
2:      sub     eax, [vmem_map]
        shr     eax, STRUCT_PAGE_SHIFT
        ret
3:      push    ebx
        push    esi
        mov     ecx, [section_shift]
        mov     esi, [mem_section]
        xor     ebx, ebx
4:      mov     edx, [esi+ebx*4]
        test    dl, 2
        jz      5f
        and     edx, -4
        push    eax
        sub     eax, edx
        shr     eax, STRUCT_PAGE_SHIFT
        mov     edx, eax
        shr     edx, cl
        cmp     edx, ebx
        je      6f
        pop     eax
5:      inc     ebx
        cmp     ebx, [nr_sections]
        jb      4b
        mov     eax, -1
        pop     esi
        pop     ebx
        ret
6:      pop     edx
        pop     esi
        pop     ebx
        ret

        .section .note.GNU-stack,"",@progbits
