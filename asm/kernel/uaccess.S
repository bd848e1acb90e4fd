# User access for kernel code with C arguments: 2.0's through FS, without an exception table, and 2.1's flat one.

        .intel_syntax noprefix
        .include "kernel.inc"

        .data
        .globl  addr_limit
addr_limit:     .long PAGE_OFFSET       # user addresses lie below

# Go to \bad unless an end of a range is a user address, or FS is the kernel's.  It changes \scratch.
        .macro  check_limit end, scratch, bad
        cmp     \end, [addr_limit]
        jbe     .Lfine\@
        mov     \scratch, fs
        and     \scratch, 0xFFFC
        cmp     \scratch, KERNEL_DS
        jne     \bad
.Lfine\@:
        .endm

# Go to \bad unless ecx is 1, 2 or 4: the macros of 2.1 know no other operand (__put_user_bad).
        .macro  check_size bad
        cmp     ecx, 4
        je      .Lsized\@
        lea     eax, [ecx-1]
        cmp     eax, 2
        jae     \bad
.Lsized\@:
        .endm

        .text

# unsigned get_fs(void), void set_fs(selector), unsigned get_ds(void)
        .globl  get_fs, get_ds, set_fs
get_fs:
        xor     eax, eax
        mov     ax, fs
        ret
get_ds:
        mov     eax, KERNEL_DS
        ret
set_fs:
        mov     eax, [esp+4]
        mov     fs, ax
        ret

# 2.0: memcpy_tofs(user, kernel, count), memcpy_fromfs(kernel, user, count).  Whoever did not ask verify_area first,
# or was overtaken after it, faults here for good.
        .globl  memcpy_tofs, memcpy_fromfs
memcpy_tofs:
        push    esi
        push    edi
        push    es
        mov     ax, fs
        mov     es, ax
        mov     edi, [esp+16]
        mov     esi, [esp+20]
        mov     ecx, [esp+24]
        rep movsb
        pop     es
        pop     edi
        pop     esi
        ret
memcpy_fromfs:
        push    esi
        push    edi
        mov     edi, [esp+12]
        mov     esi, [esp+16]
        mov     ecx, [esp+20]
        rep movs byte ptr es:[edi], byte ptr fs:[esi]
        pop     edi
        pop     esi
        ret

# 2.0: get_user_byte(address), …_word, …_long; put_user_long(value, address) and so on.
        .globl  get_fs_byte, get_fs_word, get_fs_long, put_fs_byte, put_fs_word, put_fs_long
get_fs_byte:
        mov     eax, [esp+4]
        movzx   eax, byte ptr fs:[eax]
        ret
get_fs_word:
        mov     eax, [esp+4]
        movzx   eax, word ptr fs:[eax]
        ret
get_fs_long:
        mov     eax, [esp+4]
        mov     eax, fs:[eax]
        ret
put_fs_byte:
        mov     eax, [esp+4]
        mov     edx, [esp+8]
        mov     fs:[edx], al
        ret
put_fs_word:
        mov     eax, [esp+4]
        mov     edx, [esp+8]
        mov     fs:[edx], ax
        ret
put_fs_long:
        mov     eax, [esp+4]
        mov     edx, [esp+8]
        mov     fs:[edx], eax
        ret

# 2.1: copy_to_user(user, kernel, count) and copy_from_user(kernel, user, count): bytes that were not copied.  What
# copy_from_user could not read becomes zeros.
        .globl  copy_to_user, copy_from_user
copy_to_user:
        mov     eax, [esp+4]
        mov     ecx, [esp+12]
        add     eax, ecx
        jc      1f
        check_limit eax, edx, 1f
        push    esi
        push    edi
        mov     edi, [esp+12]
        mov     esi, [esp+16]
        call    copy_user
        pop     edi
        pop     esi
        ret
1:      mov     eax, ecx
        ret
copy_from_user:
        push    esi
        push    edi
        mov     edi, [esp+12]
        mov     esi, [esp+16]
        mov     ecx, [esp+20]
        mov     eax, esi
        add     eax, ecx
        jc      2f
        check_limit eax, edx, 2f
        call    copy_user
1:      mov     ecx, eax
        mov     edx, eax
        xor     eax, eax
        rep stosb
        mov     eax, edx
        pop     edi
        pop     esi
        ret
2:      mov     eax, ecx
        jmp     1b

# 2.1: int __get_user(kernel pointer, user address, size), int __put_user(value, user address, size): 0 or -EFAULT, also
# for a size other than 1, 2 and 4.
        .globl  __get_user, __put_user
__get_user:
        mov     edx, [esp+8]
        mov     ecx, [esp+12]
        mov     eax, edx
        add     eax, ecx
        jc      9f
        check_limit eax, eax, 9f
        check_size 9f
        cmp     ecx, 2
        ja      4f
        je      2f
1:      movzx   eax, byte ptr [edx]
        jmp     5f
2:      movzx   eax, word ptr [edx]
        jmp     5f
4:      mov     eax, [edx]
5:      mov     edx, [esp+4]
        mov     [edx], eax
        xor     eax, eax
        ret
9:      mov     eax, -EFAULT
        ret
        ex_table 1b, 9b
        ex_table 2b, 9b
        ex_table 4b, 9b
__put_user:
        mov     edx, [esp+8]
        mov     ecx, [esp+12]
        mov     eax, edx
        add     eax, ecx
        jc      9f
        check_limit eax, eax, 9f
        check_size 9f
        mov     eax, [esp+4]
        cmp     ecx, 2
        ja      4f
        je      2f
1:      mov     [edx], al
        jmp     5f
2:      mov     [edx], ax
        jmp     5f
4:      mov     [edx], eax
5:      xor     eax, eax
        ret
9:      mov     eax, -EFAULT
        ret
        ex_table 1b, 9b
        ex_table 2b, 9b
        ex_table 4b, 9b

# unsigned long clear_user(user, count): bytes that were not cleared.  (clear_user_c: the name is the routine's.)
        .globl  clear_user_c
clear_user_c:
        mov     eax, [esp+4]
        mov     ecx, [esp+8]
        add     eax, ecx
        jc      1f
        check_limit eax, edx, 1f
        push    edi
        mov     edi, [esp+8]
        call    clear_user
        pop     edi
        ret
1:      mov     eax, ecx
        ret

        .section .note.GNU-stack,"",@progbits
