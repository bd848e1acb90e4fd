/* Debug registers of a tracee: PTRACE_POKEUSER at u_debugreg (ptrace(2), arch/x86/kernel/ptrace.c). */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>
#define DR(n) ((void *)(offsetof(struct user, u_debugreg) + 4 * (n)))
static volatile int target[4] __attribute__((aligned(16)));
static void __attribute__((noinline)) work(void) { __asm__ volatile("" ::: "memory"); target[1]++; target[2] = target[0]; }
static void poke(int pid, int n, long value) { errno = 0; long r = ptrace(PTRACE_POKEUSER, pid, DR(n), value); printf("dr%d: %ld %d\n", n, r, r ? errno : 0); }
static void dr7(int pid, long value) { errno = 0; long r = ptrace(PTRACE_POKEUSER, pid, DR(7), value); printf("dr7 %lx: %ld %d\n", value, r, r ? errno : 0); }
static long peek(int pid, int n) { return ptrace(PTRACE_PEEKUSER, pid, DR(n), 0); }
static void stop(int pid, const char *what) {
  int status; siginfo_t info; waitpid(pid, &status, 0);
  if (!WIFSTOPPED(status)) { printf("%s: ended %x\n", what, status); return; }
  ptrace(PTRACE_GETSIGINFO, pid, 0, &info);
  struct user_regs_struct regs; ptrace(PTRACE_GETREGS, pid, 0, &regs);
  printf("%s: signal %d code %d dr6 %lx at work %d rf %d target %d %d\n", what, WSTOPSIG(status), info.si_code, peek(pid, 6) & 0x400f,
    regs.eip == (unsigned long)work, (int)(regs.eflags >> 16 & 1), (int)ptrace(PTRACE_PEEKDATA, pid, (void *)&target[1], 0), (int)ptrace(PTRACE_PEEKDATA, pid, (void *)&target[2], 0));
}
int main(void) {
  setbuf(stdout, 0);
  int pid = fork();
  if (!pid) { ptrace(PTRACE_TRACEME, 0, 0, 0); raise(SIGSTOP); for (int i = 0; i < 4; i++) work(); int c = fork(); if (!c) { work(); _exit(7); } int s; waitpid(c, &s, 0); _exit(WIFEXITED(s) ? WEXITSTATUS(s) : 99); }
  stop(pid, "stop");
  for (int n = 0; n < 8; n++) printf("%d is %lx\n", n, peek(pid, n) & (n == 6 ? 0x400f : ~0));
  poke(pid, 4, 0); poke(pid, 5, 1);
  poke(pid, 0, (long)&target[1]);
  dr7(pid, 0x000d0001);            /* writes of four bytes */
  printf("dr0 %d dr7 %lx\n", peek(pid, 0) == (long)&target[1], peek(pid, 7));
  ptrace(PTRACE_CONT, pid, 0, 0); stop(pid, "write");
  dr7(pid, 0);
  poke(pid, 1, (long)&target[0]);
  dr7(pid, 0x00f00004);            /* loads and stores of four bytes */
  ptrace(PTRACE_CONT, pid, 0, 0); stop(pid, "load");
  dr7(pid, 0);
  poke(pid, 2, (long)work);
  dr7(pid, 0x00000010);            /* execution */
  ptrace(PTRACE_CONT, pid, 0, 0); stop(pid, "code");
  ptrace(PTRACE_SINGLESTEP, pid, 0, 0); stop(pid, "step");
  ptrace(PTRACE_CONT, pid, 0, 0); stop(pid, "code again");
  dr7(pid, 0x00020010); dr7(pid, 0x00000400); dr7(pid, 0x0c000010); dr7(pid, 0x02000010); printf("dr7 %lx\n", peek(pid, 7));
  poke(pid, 6, 0xf); printf("dr6 %lx\n", peek(pid, 6) & 0x400f);
  poke(pid, 3, (long)&target[1] + 1); dr7(pid, 0xd0000040); 
  poke(pid, 3, (long)&target[1] + 1); dr7(pid, 0x50000040);
  poke(pid, 3, (long)&target[1] + 2); dr7(pid, 0x50000040); printf("dr7 %lx\n", peek(pid, 7));
  dr7(pid, 0x50000040 | 0x300); printf("dr7 %lx\n", peek(pid, 7));
  dr7(pid, 0);
  ptrace(PTRACE_CONT, pid, 0, 0); stop(pid, "end");
  return 0;
}
