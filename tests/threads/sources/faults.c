/* Two threads fault in calls of theirs on the same page at the same time, again and again: one of them is always too late. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>
#include <fcntl.h>
#include <stdio.h>
#include <sched.h>
static char *page; static int fd; static volatile int turn[2]; 
enum { ROUNDS = 32 };
static void *work(void *p) {
  int me = (int)(long)p;
  for (int i = 1; i <= ROUNDS; i++) {
    if (!me) madvise(page, 4096, MADV_DONTNEED);
    __atomic_store_n(&turn[me], 2*i, __ATOMIC_SEQ_CST);
    while (turn[!me] < 2*i) sched_yield();
    if (read(fd, page + 64, 8) != 8) _exit(3);
    __atomic_store_n(&turn[me], 2*i+1, __ATOMIC_SEQ_CST);
    while (turn[!me] < 2*i+1) sched_yield();
  }
  return 0;
}
int main(void) {
  page = mmap(0, 4096, 3, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0);
  fd = open("/dev/zero", O_RDONLY);
  pthread_t t; pthread_create(&t, 0, work, (void*)1L); work(0); pthread_join(t, 0); puts("through"); return 0;
}
