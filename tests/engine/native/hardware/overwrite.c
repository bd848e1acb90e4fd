/* Repeated string instructions that overwrite themselves go on as they were fetched; other stores are seen at once. */
#include "probe.h"
#define M (~0u & ~0x10000)
#define R(name, ax, len, off, ...) do { reset(); memset(CODE, 0xcc, 0x3000); in.eax = ax; in.ecx = len; in.edi = (uint32_t)CODE + (off); in.esi = (uint32_t)DATA; unsigned char b[] = {__VA_ARGS__}; memcpy(CODE + 16, b, sizeof b); target = (uint32_t)CODE + 16; if (!sigsetjmp(back, 1)) go(); show(name, M); printf("%08x\n", sum(CODE, 0x3000)); } while (0)
int main(void) { setup();
 R("stosb 90 over", 0x90, 64, 0, 0xf3,0xaa);
 R("stosb 40 over", 0x40, 64, 0, 0xf3,0xaa);
 R("stosb 90 from self", 0x90, 40, 16, 0xf3,0xaa);
 R("stosb 90 second byte", 0x90, 40, 17, 0xf3,0xaa);
 R("stosd 90 over", 0x90909090, 20, 0, 0xf3,0xab);
 R("stosd 90 cross", 0x90909090, 20, 2, 0xf3,0xab);
 R("stosb next", 0x90, 40, 18, 0xf3,0xaa);
 R("movsb over", 0x90, 64, 0, 0xf3,0xa4);
 R("movsd over", 0x90, 20, 0, 0xf3,0xa5);
 R("stosw pre", 0x9090, 40, 0, 0x66,0xf3,0xab);
 R("std stosb", 0x90, 40, 40, 0xfd,0xf3,0xaa,0xfc);
 R("stosb long before", 0x40, 64, 0, 0x90,0x90,0x43,0xf3,0xaa);
 R("single stosb self", 0x90, 40, 16, 0xaa);
 R("mov self", 0x90909090, 40, 16, 0x89,0x07);
 R("push", 0x90, 1, 18, 0xaa, 0x40, 0x40);
 R("stosd across", 0x90909090, 20, 1, 0xf3,0xab);
 R("stosd across 3", 0x90909090, 20, 3, 0xf3,0xab);
 R("mov, then stosb", 0x90, 40, 17, 0xc6,0x07,0x42,0xf3,0xaa);
 R("stosb in a loop", 0x90, 3, 17, 0xf3,0xaa);
 R("stosb self-loop", 0x90, 3, 17, 0xf3,0xaa,0x41,0x42);
 return 0; }
