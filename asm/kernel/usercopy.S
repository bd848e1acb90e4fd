# User access: every instruction that touches a user address has an entry in the exception table.

        .intel_syntax noprefix
        .include "kernel.inc"
        .text

# esi: source, edi: destination, ecx: bytes.  eax: bytes that were not copied (0 when all were).
#
# Blocks of 64 first; a fault there goes on byte by byte from the same place, so that the residue is exact at
# whatever byte the bad page begins.
        .globl  copy_user
copy_user:
        mov     edx, ecx
        shr     edx, 6
        jz      2f
1:      movups  xmm0, [esi]
5:      movups  xmm1, [esi+16]
6:      movups  xmm2, [esi+32]
7:      movups  xmm3, [esi+48]
8:      movups  [edi], xmm0
9:      movups  [edi+16], xmm1
10:     movups  [edi+32], xmm2
11:     movups  [edi+48], xmm3
        add     esi, 64
        add     edi, 64
        sub     ecx, 64
        dec     edx
        jnz     1b
2:      cld
3:      rep movsb
4:      mov     eax, ecx
        ret
        ex_table 1b, 2b
        ex_table 5b, 2b
        ex_table 6b, 2b
        ex_table 7b, 2b
        ex_table 8b, 2b
        ex_table 9b, 2b
        ex_table 10b, 2b
        ex_table 11b, 2b
        ex_table 3b, 4b

# edi: destination, ecx: bytes.  eax: bytes that were not cleared.
        .globl  clear_user
clear_user:
        xor     eax, eax
        cld
1:      rep stosb
2:      mov     eax, ecx
        ret
        ex_table 1b, 2b

# esi: user string, edi: kernel buffer, ecx: its size.  eax: length without the NUL, the size when there was none in
# it, or -EFAULT.
        .globl  strncpy_from_user
strncpy_from_user:
        mov     edx, ecx
        jecxz   3f
1:      mov     al, [esi]
        mov     [edi], al
        inc     esi
        inc     edi
        test    al, al
        jz      2f
        dec     ecx
        jnz     1b
        mov     eax, edx
        ret
2:      mov     eax, edx
        sub     eax, ecx
        ret
3:      xor     eax, eax
        ret
4:      mov     eax, -EFAULT
        ret
        ex_table 1b, 4b

# edi: user address.  eax: the word, edx: 0 or -EFAULT.
        .globl  get_user_4
get_user_4:
        xor     edx, edx
1:      mov     eax, [edi]
        ret
2:      xor     eax, eax
        mov     edx, -EFAULT
        ret
        ex_table 1b, 2b

# eax: the value, edi: user address.  eax: 0 or -EFAULT.
        .globl  put_user_4
put_user_4:
1:      mov     [edi], eax
        xor     eax, eax
        ret
2:      mov     eax, -EFAULT
        ret
        ex_table 1b, 2b

# edi: user address, eax: the word to be replaced, ecx: the new one, esi: kernel address for the word that was there.
# eax: 0 or -EFAULT.
        .globl  cmpxchg_user
cmpxchg_user:
1:      lock cmpxchg [edi], ecx
        mov     [esi], eax
        xor     eax, eax
        ret
2:      mov     eax, -EFAULT
        ret
        ex_table 1b, 2b

# Words of the kernel's own making, brought in XMM0 to XMM7: edi is a kernel address, 128 bytes are stored.
        .globl  store_window
store_window:
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7
        movups  [edi+\n*16], xmm\n
        .endr
        ret

        .section .note.GNU-stack,"",@progbits
