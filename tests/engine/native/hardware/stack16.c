/* ENTER, LEAVE, PUSHA and POPA on a 16-bit stack, of the LDT; the registers behind each. */
#include "probe.h"
#include <asm/ldt.h>
#include <sys/syscall.h>
static void one(const char *name, uint32_t esp, uint32_t ebp, const unsigned char *code, int n)
{
    unsigned char b[64]; int l = 0;
    static const unsigned char head[] = {0x8c,0xd2, 0x89,0xe6, 0xb8,7,0,0,0, 0x8e,0xd0, 0x89,0xdc}; /* edx=ss, esi=esp, ss=7, esp=ebx */
    static const unsigned char tail[] = {0x89,0xe1, 0x8e,0xd2, 0x89,0xf4};                          /* ecx=esp, ss=edx, esp=esi */
    reset(); in.ebx = esp; in.ebp = ebp;
    memcpy(b, head, sizeof head); l = sizeof head; memcpy(b + l, code, n); l += n; memcpy(b + l, tail, sizeof tail); l += sizeof tail;
    run(b, l);
    printf("%s: trap %d eip %d esp %x ebp %x eax %x edi %x stack %08x\n", name, trapno, eip, out.ecx, out.ebp, out.eax, out.edi, sum(STK, 0x4000));
}
#define ONE(name, esp, ebp, ...) do { unsigned char c[] = {__VA_ARGS__}; one(name, esp, ebp, c, sizeof c); } while (0)
int main(void)
{
    struct user_desc d; memset(&d, 0, sizeof d); d.entry_number = 0; d.base_addr = (uint32_t)STK; d.limit = 0x3fff; d.contents = 0; d.useable = 1;
    setup();
    if (syscall(SYS_modify_ldt, 1, &d, sizeof d)) return 1;
    ONE("enter", 0x32001000, 0x77772000, 0xc8,8,0,0); ONE("enter l1", 0x32001000, 0x77772000, 0xc8,8,0,1); ONE("enter l3", 0x32001000, 0x77772000, 0xc8,8,0,3);
    ONE("enter 66", 0x32001000, 0x77772000, 0x66,0xc8,8,0,0); ONE("enter 66 l3", 0x32001000, 0x77772000, 0x66,0xc8,8,0,3);
    ONE("leave", 0x32001000, 0x77772000, 0xc9); ONE("leave 66", 0x32001000, 0x77772000, 0x66,0xc9);
    ONE("push pop", 0x32001000, 0x77772000, 0x50,0x5f); ONE("pushf", 0x32001000, 0x77772000, 0x68,0x78,0x56,0x34,0x12,0x66,0x5f);
    ONE("wrap", 0x32000002, 0x77772000, 0x66,0x50,0x66,0x5f);
    return 0;
}
