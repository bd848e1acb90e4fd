/* ENTER, PUSHA, ARPL, segment registers; accesses across the end of a page: CR2 is the first byte that is missing. */
#include "probe.h"
#define M (~0u & ~0x10010)
/* Of these a processor may have stored a part: PART prints no address either. */
#define MISS(name, mask, ...) do { unsigned char b[] = {__VA_ARGS__}; run(b, sizeof b); memset(STK, 0, 0x4000); show(name, mask); } while (0)
#define PART(name, mask, ...) do { unsigned char b[] = {__VA_ARGS__}; run(b, sizeof b); memset(STK, 0, 0x4000); cr2 = 0; show(name, mask); } while (0)
int main(void) { setup();
 T("enter 66", M, 0x66,0xc8,8,0,0); T("enter 66 l1", M, 0x66,0xc8,8,0,1);
 reset(); in.ebp=(uint32_t)STK+0x2000; RUN("enter 66 l3", M, 0x66,0xc8,8,0,3);
 reset(); in.ebp=(uint32_t)STK+0x2000; RUN("enter l3", M, 0xc8,8,0,3);
 reset(); in.ebp=(uint32_t)STK+0x2000; RUN("enter l31", M, 0xc8,8,0,31);
 reset(); in.ebp=(uint32_t)STK+0x2000; RUN("enter l33", M, 0xc8,8,0,33);
 reset(); in.ebp=(uint32_t)STK+0x2000; MISS("enter l0 big", M, 0xc8,0xff,0xff,0);
 reset(); in.esp=(uint32_t)STK+0x10; MISS("enter final esp missing", M, 0xc8,0x20,0,0);
 reset(); in.esp=(uint32_t)STK+0x10; in.ebp=(uint32_t)STK+0x2000; MISS("enter final esp missing l2", M, 0xc8,0x20,0,2);
 reset(); in.esp=(uint32_t)STK+2; MISS("enter push cross", M, 0xc8,0,0,0);
 reset(); in.esp=(uint32_t)STK+0x4; in.ebp=(uint32_t)STK+0x2000; MISS("enter l2 second push missing", M, 0xc8,0x0,0,2);
 reset(); in.esp=(uint32_t)STK+0x40; in.ebp=(uint32_t)STK+4; RUN("enter l3 ebp read missing", M, 0xc8,0x0,0,3);
 reset(); in.esp=(uint32_t)STK+8; in.ebp=(uint32_t)STK+0x2000; MISS("enter l31 deep missing", M, 0xc8,0x0,0,31);
 reset(); in.esp=(uint32_t)STK+8; in.ebp=(uint32_t)STK+0x2000; MISS("enter 66 l31 deep missing", M, 0x66,0xc8,0x0,0,31);
 reset(); in.esp=(uint32_t)STK+16; PART("pusha miss", M, 0x60);
 reset(); in.esp=(uint32_t)STK+18; PART("pusha miss 18", M, 0x60);
 reset(); in.esp=(uint32_t)STK+8; PART("pushaw miss", M, 0x66,0x60);
 reset(); in.esp=(uint32_t)STK+32; RUN("pusha ok", M, 0x60);
 reset(); in.esp=(uint32_t)STK+0x4000-16; RUN("popa miss", M, 0x61);
 reset(); in.esp=(uint32_t)STK+0x4000-14; PART("popa miss 14", M, 0x61);
 reset(); in.esp=(uint32_t)STK+0x4000-8; RUN("popaw miss", M, 0x66,0x61);
 reset(); in.esp=(uint32_t)STK+0x4000-32; RUN("popa ok", M, 0x61);
 T("pushaw", M, 0x66,0x60); T("popaw", M, 0x66,0x61); T("leavew", M, 0x66,0xc9);
 reset(); in.ebp=(uint32_t)STK+0x4000-2; RUN("leave miss", M, 0xc9);
 reset(); in.ebp=(uint32_t)STK+0x2000; RUN("leave ok", M, 0xc9); 
 reset(); in.ebp=(uint32_t)STK+0x2000; RUN("leave 66", M, 0x66,0xc9); 
 /* arpl */
 for (int d = 0; d < 4; d++) for (int s = 0; s < 4; s++) { reset(); in.eax = 0x12340018+d; in.ecx = 0x56780020+s; in.flags |= 0x8d5; char n[40]; sprintf(n, "arpl %d %d", d, s); RUN(n, M, 0x63,0xc8); 
   reset(); in.eax = 0x12340018+d; in.ecx = 0x56780020+s; RUN(n, M, 0x63,0xc8);
   reset(); *(int*)(DATA+0x100) = 0x12340018+d; in.ecx = 0x56780020+s; RUN(n, M, 0x63,0x0e);}
 T("smsw ax", M, 0x66,0x0f,1,0xe0); T("smsw m", M, 0x0f,1,0x26); T("sldt eax", M, 0x0f,0,0xc0);
 T("verr", M, 0x0f,0,0xe0);T("lar", M, 0x0f,2,0xc8); T("lsl", M, 0x0f,3,0xc8);
 T("mov es=23",M,0x8c,0xd8,0x8e,0xc0); T("mov r, ds 32", M, 0x8c,0xd8); T("mov r16 ds", M, 0x66,0x8c,0xd8); T("mov m ds", M, 0x8c,0x1e);
 T("push ds", M, 0x1e); T("push ds 66", M, 0x66,0x1e); T("push fs", M, 0x0f,0xa0); T("pop es", M, 0x1e,0x07); T("pop es 66", M, 0x66,0x1e,0x66,0x07);
 T("pushf 66", M, 0x66,0x9c); T("popf", M, 0x68,0xff,0xbe,0x20,0,0x9d,0x9c,0x58); T("popfw", M, 0x66,0x68,0xff,0xfe,0x66,0x9d,0x9c,0x58);
 T("pushf rf", M, 0x68,2,2,1,0,0x9d,0x9c,0x58);
 T("lahf", M, 0x9f); T("sahf", M, 0x9e); T("salc", M, 0xf9,0xd6); T("cpuid-rf", M, 0x90);
 /* page crossing: CR2 */
#define X(name, off, ...) do { reset(); in.esi = (uint32_t)DATA+0x2000-(off); in.edi = in.esi; RUN(name, M, __VA_ARGS__); } while (0)
 for (int o = 1; o < 30; o += 3) {
 X("fbstp", o, 0xd9,0xe8,0xdf,0x36,0xdb,0xe3); X("fstp t", o, 0xd9,0xe8,0xdb,0x3e); X("fbld", o, 0xdf,0x26,0xdb,0xe3); X("fld t", o, 0xdb,0x2e,0xdb,0xe3);

 X("mov", o, 0x8b,6); X("mov st", o, 0x89,6); X("movups", o, 0x0f,0x10,6); X("movq", o, 0x0f,0x7f,6); X("add", o, 1,6); X("xadd", o, 0x0f,0xc1,6); X("cmpxchg8b", o, 0x0f,0xc7,0xe); X("cmpxchg", o, 0x0f,0xb1,0xe);
 X("lock cmpxchg8b", o, 0xf0,0x0f,0xc7,0xe); X("lock add", o, 0xf0,1,6); X("xchg", o, 0x87,6);
 X("les", o, 0xc4,6); X("bound", o, 0x62,6); X("ljmp", o, 0xff,0x2e); X("lgdt", o, 0x0f,1,0x16); X("bts", o, 0x0f,0xab,6);
 X("movs", o, 0xa5); X("cmps", o, 0xa7); X("scas", o, 0xaf); X("stos", o, 0xab); X("lods", o, 0xad); X("pop m", o, 0x8f,6); X("push m", o, 0xff,0x36);
 X("fild64", o, 0xdf,0x2e,0xdb,0xe3); X("fistp64", o, 0xd9,0xe8,0xdf,0x3e,0xdb,0xe3); X("fst32",o,0xd9,0xe8,0xd9,0x16,0xdb,0xe3); X("fst64",o,0xd9,0xe8,0xdd,0x16,0xdb,0xe3); X("movntq", o, 0x0f,0xe7,6); X("movhps", o, 0x0f,0x17,6); X("cmov", o, 0x0f,0x44,6); X("enterlike push", o, 0x89,0xf4,0x50);X("call m", o, 0xff,0x16);X("rcl m", o, 0xd1,0x16);X("shld", o, 0x0f,0xa4,0x06,3);X("shl 0", o, 0xc1,0x26,0);X("shld0", o, 0x0f,0xa4,0x06,0); X("setc", o, 0x0f,0x92,6); X("stmxcsr", o, 0x0f,0xae,0x1e); X("ldmxcsr", o, 0xc7,6,0x80,0x1f,0,0,0x0f,0xae,0x16); X("fstcw", o, 0xd9,0x3e); X("fstsw", o, 0xdd,0x3e); X("fldcw", o, 0xd9,0x2e,0xdb,0xe3);
 X("rep movs", o, 0xf3,0xa5); X("rep stos", o, 0xf3,0xab); X("rep lods", o, 0xf3,0xad); X("repe cmps", o, 0xf3,0xa7); X("repe scas", o, 0x8b,6,0xf3,0xaf); }
 return 0; }
