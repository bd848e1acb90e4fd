/* Results and defined flags of shifts, rotates, multiplication, division, BCD, bit tests and arithmetic (SDM 2, flags affected). */
#include "probe.h"
static uint32_t rnd = 12345;
static uint32_t r32(void) { rnd ^= rnd << 13; rnd ^= rnd >> 17; rnd ^= rnd << 5; return rnd; }
static uint32_t edge[] = {0,1,2,0x7f,0x80,0xff,0x7fff,0x8000,0xffff,0x7fffffff,0x80000000,0xffffffff,0x12345678,0xa5a5a5a5};
static uint32_t val(void) { return r32()%3 ? edge[r32()%14] : r32(); }
#define CF 1
#define PF 4
#define AF 0x10
#define ZF 0x40
#define SF 0x80
#define OF 0x800
#define ALL (CF|PF|AF|ZF|SF|OF)
int main(void) { setup();
 for (int op = 0; op < 8; op++) for (int w = 0; w < 3; w++) { int bits = 8<<w;
  for (int c = 0; c < 256; c += c < 66 ? 1 : 37) for (int k = 0; k < 3; k++) for (int form=0; form<2; form++) { reset(); in.eax = val(); in.ecx = c | 0xaa00; in.flags = 0x202 | (r32() & ALL);
   unsigned char b[8]; int l = 0; if (w == 1) b[l++] = 0x66; b[l++] = (form ? 0xc0 : 0xd2) + (w > 0); b[l++] = 0xc0 + 8*op; if (form) b[l++] = c;
   uint32_t a = in.eax, f = in.flags; run(b, l); int m = c & 31; uint32_t mask = ALL;
   if (op < 4) { /* rotates: OF undefined unless 1 */ if (m != 1 && m != 0) mask &= ~OF; }
   else if (m) { mask &= ~AF; if (m != 1) mask &= ~OF; if (m >= bits && op != 7) mask &= ~CF; }
   printf("sh%d.%d n%d f%d %08x fl %x: %x %x %d\n", op, bits, c, form, a, f & ALL, out.eax, out.flags & mask, trapno); } }
 for (int op = 0; op < 2; op++) for (int w = 1; w < 3; w++) for (int c = 0; c < 66; c++) for (int k = 0; k < 3; k++) for (int form = 0; form < 2; form++) { int bits = 8<<w; reset(); in.eax = val(); in.edx = val(); in.ecx = c; in.flags = 0x202 | (r32() & ALL);
   unsigned char b[8]; int l = 0; if (w == 1) b[l++] = 0x66; b[l++] = 0x0f; b[l++] = (op ? 0xac : 0xa4) + form; b[l++] = 0xd0; if (!form) b[l++] = c;
   uint32_t a = in.eax, d = in.edx, f = in.flags; run(b, l); int m = c & 31; uint32_t mask = ALL, res = ~0u; if (m) { mask &= ~AF; if (m != 1) mask &= ~OF; if (m > bits) { mask = 0; res = 0; } }
   printf("sd%d.%d n%d f%d %08x %08x fl %x: %x %x %d\n", op, bits, c, form, a, d, f & ALL, out.eax & res, out.flags & mask, trapno); }
 for (int op = 0; op < 2; op++) for (int w = 1; w < 3; w++) for (int k = 0; k < 20; k++) { reset(); in.eax = val(); in.edx = k < 5 ? 0 : val(); in.flags = 0x202 | (r32() & ALL);
   unsigned char b[8]; int l = 0; if (w == 1) b[l++] = 0x66; b[l++] = 0x0f; b[l++] = 0xbc + op; b[l++] = 0xc2; uint32_t a = in.eax, d = in.edx, f = in.flags; run(b, l);
   printf("bs%d.%d %08x %08x fl %x: %x %x\n", op, w, a, d, f & ALL, out.eax, out.flags & ZF); }
 for (int op = 4; op < 8; op++) for (int w = 0; w < 3; w++) for (int k = 0; k < 60; k++) { reset(); in.eax = val(); in.edx = k & 1 ? 0 : val(); in.ecx = val(); in.flags = 0x202 | (r32() & ALL);
   unsigned char b[8]; int l = 0; if (w == 1) b[l++] = 0x66; b[l++] = 0xf6 + (w > 0); b[l++] = 0xc1 + 8*op; uint32_t a = in.eax, d = in.edx, c = in.ecx, f = in.flags; run(b, l);
   uint32_t mask = op < 6 ? CF|OF : 0; printf("md%d.%d %08x:%08x %08x fl %x: %x %x %x %d\n", op, w, d, a, c, f & ALL, out.edx, out.eax, out.flags & mask, trapno); }
 for (int op = 0; op < 3; op++) for (int w = 1; w < 3; w++) for (int k = 0; k < 30; k++) { reset(); in.eax = val(); in.ecx = val(); in.flags = 0x202 | (r32() & ALL);
   unsigned char b[12]; int l = 0; if (w == 1) b[l++] = 0x66; if (op == 0) { b[l++]=0x0f; b[l++]=0xaf; b[l++]=0xc1; } else if (op == 1) { b[l++]=0x6b; b[l++]=0xc1; b[l++]=val(); } else { uint32_t v = val(); b[l++]=0x69; b[l++]=0xc1; memcpy(b+l,&v,4); l += w == 1 ? 2 : 4; }
   uint32_t a = in.eax, c = in.ecx, f = in.flags; run(b, l); printf("imul%d.%d %08x %08x fl %x: %x %x\n", op, w, a, c, f & ALL, out.eax, out.flags & (CF|OF)); }
 unsigned char bcd[] = {0x27,0x2f,0x37,0x3f}; 
 for (int op = 0; op < 4; op++) for (int a = 0; a < 256; a++) for (int f = 0; f < 4; f++) { reset(); in.eax = 0x1234ff00 + (f&1?0x100:0) + a; in.flags = 0x202 | (f & 1 ? CF : 0) | (f & 2 ? AF : 0) | (a & 1 ? OF|SF|ZF|PF : 0); uint32_t fl = in.flags; run(bcd+op, 1);
   uint32_t mask = op < 2 ? CF|AF|SF|ZF|PF : CF|AF; printf("bcd%d %x fl %x: %x %x\n", op, a, fl & ALL, out.eax, out.flags & mask); }
 for (int op = 0; op < 2; op++) for (int i = 0; i < 256; i++) { reset(); in.eax = val(); uint32_t a = in.eax; unsigned char b[] = {0xd4 + op, i}; in.flags = 0x202 | (r32() & ALL); run(b, 2); printf("aa%d %x %x: %x %x %d\n", op, i, a, out.eax, trapno == 3 ? out.flags & (SF|ZF|PF) : 0, trapno); }
 for (int op = 0; op < 8; op++) for (int w = 0; w < 3; w++) for (int k = 0; k < 40; k++) { reset(); in.eax = val(); in.ecx = val(); in.flags = 0x202 | (r32() & ALL); unsigned char b[8]; int l = 0; if (w == 1) b[l++] = 0x66; b[l++] = 8*op + (w > 0); b[l++] = 0xc8; uint32_t a = in.eax, c = in.ecx, f = in.flags; run(b, l); uint32_t mask = (op == 1 || op == 4 || op == 6) ? ALL & ~AF : ALL;
   printf("alu%d.%d %x %x fl %x: %x %x\n", op, w, a, c, f & ALL, out.eax, out.flags & mask); }
 for (int op = 0; op < 4; op++) for (int w = 0; w < 3; w++) for (int k = 0; k < 20; k++) { reset(); in.eax = val(); in.flags = 0x202 | (r32() & ALL); unsigned char b[8]; int l = 0; if (w == 1) b[l++] = 0x66; b[l++] = (op < 2 ? 0xfe : 0xf6) + (w > 0); b[l++] = (op == 0 ? 0xc0 : op == 1 ? 0xc8 : op == 2 ? 0xd0 : 0xd8); uint32_t a = in.eax, f = in.flags; run(b, l); printf("un%d.%d %x fl %x: %x %x\n", op, w, a, f & ALL, out.eax, out.flags & ALL); }
 for (int op = 4; op < 8; op++) for (int w = 1; w < 3; w++) for (int k = 0; k < 30; k++) for (int form = 0; form < 3; form++) { reset(); in.ebx = val(); in.ecx = val(); if (form == 1) in.ecx &= 0x1ff; in.flags = 0x202 | (r32() & ALL); unsigned char b[8]; int l = 0; if (w == 1) b[l++] = 0x66; b[l++] = 0x0f;
   if (form == 2) { b[l++] = 0xba; b[l++] = 0xc3 + 8*op; b[l++] = r32(); } else { b[l++] = 0x83 + 8*op; b[l++] = form ? 0x0e : 0xcb; } uint32_t a = in.ebx, c = in.ecx, f = in.flags; run(b, l); printf("bt%d.%d.%d %x %x fl %x: %x %x %x %08x\n", op, w, form, a, c, f & ALL, out.ebx, out.flags & (CF|ZF), trapno == 14 ? cr2 : 0, sum(DATA, 0x2000)); }
 for (int op = 0; op < 3; op++) for (int w = 0; w < 3; w++) for (int k = 0; k < 20; k++) { reset(); in.eax = val(); in.ecx = val(); in.ebx = k & 1 ? in.eax : val(); in.flags = 0x202 | (r32() & ALL); unsigned char b[8]; int l = 0; if (w == 1) b[l++] = 0x66; if (op == 2) { b[l++] = 0x86 + (w > 0); } else { b[l++] = 0x0f; b[l++] = (op ? 0xc0 : 0xb0) + (w > 0); } b[l++] = 0xcb; uint32_t a = in.eax, c = in.ecx, d = in.ebx; run(b, l); printf("cx%d.%d %x %x %x: %x %x %x %x\n", op, w, a, c, d, out.eax, out.ebx, out.ecx, out.flags & ALL); }
 return 0; }
