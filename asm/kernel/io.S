# Device memory, with C arguments.  On the 386 these are plain moves; what they cross is a mapping (MM 6).

        .intel_syntax noprefix
        .text

# void *memcpy_fromio(to, from, count), memcpy_toio(to, from, count): words of 4 bytes, then the rest.
        .globl  memcpy_fromio, memcpy_toio, memcpy
memcpy_fromio:
memcpy_toio:
        cld
memcpy:
        push    esi
        push    edi
        mov     edi, [esp+12]
        mov     esi, [esp+16]
        mov     ecx, [esp+20]
        mov     edx, ecx
        shr     ecx, 2
        rep movsd
        mov     ecx, edx
        and     ecx, 3
        rep movsb
        mov     eax, [esp+12]
        pop     edi
        pop     esi
        ret

# void *memset_io(to, byte, count)
        .globl  memset_io, memset
memset_io:
        cld
memset:
        push    edi
        mov     edi, [esp+8]
        movzx   eax, byte ptr [esp+12]
        imul    eax, eax, 0x01010101
        mov     ecx, [esp+16]
        mov     edx, ecx
        shr     ecx, 2
        rep stosd
        mov     ecx, edx
        and     ecx, 3
        rep stosb
        mov     eax, [esp+8]
        pop     edi
        ret

# readb(address) and so on; writeb(value, address) as Linux has the order.
        .globl  readb, readw, readl, writeb, writew, writel
readb:
        mov     eax, [esp+4]
        movzx   eax, byte ptr [eax]
        ret
readw:
        mov     eax, [esp+4]
        movzx   eax, word ptr [eax]
        ret
readl:
        mov     eax, [esp+4]
        mov     eax, [eax]
        ret
writeb:
        mov     eax, [esp+4]
        mov     edx, [esp+8]
        mov     [edx], al
        ret
writew:
        mov     eax, [esp+4]
        mov     edx, [esp+8]
        mov     [edx], ax
        ret
writel:
        mov     eax, [esp+4]
        mov     edx, [esp+8]
        mov     [edx], eax
        ret

        .section .note.GNU-stack,"",@progbits
