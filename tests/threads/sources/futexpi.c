/* Priority-inheriting mutexes by futex(2) itself and by pthread: what each answers. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef FUTEX_LOCK_PI2
#define FUTEX_LOCK_PI2 13
#endif
static volatile uint32_t word, other, plain;
static volatile int step, shown_tid;

static long futex(volatile uint32_t *at, int op, uint32_t value, const void *timeout, volatile uint32_t *second, uint32_t third)
{
	long got = syscall(SYS_futex, at, op, value, timeout, second, third);
	return got < 0 ? -errno : got;
}

static int tid(void) { return syscall(SYS_gettid); }

/* the word, our own number as "me" */
static const char *says(uint32_t value)
{
	static char text[4][80];
	static int turn;
	char *out = text[turn++ & 3];
	uint32_t owner = value & FUTEX_TID_MASK;
	sprintf(out, "%s%s%s", owner == tid() ? "me" : owner ? "other" : "none",
		value & FUTEX_WAITERS ? "+waiters" : "", value & FUTEX_OWNER_DIED ? "+died" : "");
	return out;
}

static void pause_a_little(void) { struct timespec t = {0, 20000000}; nanosleep(&t, 0); }

static void *lock_and_tell(void *given)
{
	long got = futex(&word, FUTEX_LOCK_PI, 0, 0, 0, 0);
	pause_a_little();
	printf("%s got %ld\n", (char *)given, got);
	step++;
	pause_a_little();
	got = futex(&word, FUTEX_UNLOCK_PI, 0, 0, 0, 0);
	printf("%s let go %ld\n", (char *)given, got);
	return 0;
}

static void alone(void)
{
	struct timespec past = {1, 0}, bad = {0, 1000000000};
	word = 0;
	printf("lock %ld %s\n", futex(&word, FUTEX_LOCK_PI, 0, 0, 0, 0), says(word));
	printf("again %ld\n", futex(&word, FUTEX_LOCK_PI, 0, 0, 0, 0));
	printf("try again %ld\n", futex(&word, FUTEX_TRYLOCK_PI, 0, 0, 0, 0));
	printf("unlock %ld %s\n", futex(&word, FUTEX_UNLOCK_PI, 0, 0, 0, 0), says(word));
	printf("unlock again %ld\n", futex(&word, FUTEX_UNLOCK_PI, 0, 0, 0, 0));
	printf("try %ld %s\n", futex(&word, FUTEX_TRYLOCK_PI | FUTEX_PRIVATE_FLAG, 0, 0, 0, 0), says(word));
	printf("unlock %ld\n", futex(&word, FUTEX_UNLOCK_PI | FUTEX_PRIVATE_FLAG, 0, 0, 0, 0));
	word = 0x3ffffff0;
	printf("nobody %ld %d\n", futex(&word, FUTEX_LOCK_PI, 0, 0, 0, 0), word == (0x3ffffff0 | FUTEX_WAITERS));
	printf("try nobody %ld\n", futex(&word, FUTEX_TRYLOCK_PI, 0, 0, 0, 0));
	word = FUTEX_OWNER_DIED;
	printf("died %ld %s\n", futex(&word, FUTEX_LOCK_PI2, 0, 0, 0, 0), says(word));
	printf("unlock %ld %s\n", futex(&word, FUTEX_UNLOCK_PI, 0, 0, 0, 0), says(word));
	word = FUTEX_WAITERS;
	printf("waiters %ld %s\n", futex(&word, FUTEX_LOCK_PI, 0, 0, 0, 0), says(word));
	word = 0;
	printf("bad time %ld\n", futex(&word, FUTEX_LOCK_PI, 0, &bad, 0, 0));
	printf("bad pointer %ld %ld\n", futex(&word, FUTEX_LOCK_PI, 0, (void *)16, 0, 0), futex((void *)16, FUTEX_LOCK_PI, 0, 0, 0, 0));
	printf("unaligned %ld %ld %ld\n", futex((void *)((char *)&word + 1), FUTEX_LOCK_PI, 0, 0, 0, 0),
	       futex((void *)((char *)&word + 1), FUTEX_TRYLOCK_PI, 0, 0, 0, 0), futex((void *)((char *)&word + 1), FUTEX_UNLOCK_PI, 0, 0, 0, 0));
	printf("clocks %ld %ld\n", futex(&word, FUTEX_LOCK_PI | FUTEX_CLOCK_REALTIME, 0, &past, 0, 0),
	       futex(&word, FUTEX_TRYLOCK_PI | FUTEX_CLOCK_REALTIME, 0, 0, 0, 0));
	printf("clock of 2 %ld\n", futex(&word, FUTEX_LOCK_PI2 | FUTEX_CLOCK_REALTIME, 0, &past, 0, 0));
	futex(&word, FUTEX_UNLOCK_PI, 0, 0, 0, 0);
	void *page = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	printf("read only %ld %ld\n", futex(page, FUTEX_LOCK_PI, 0, 0, 0, 0), futex(page, FUTEX_LOCK_PI | FUTEX_PRIVATE_FLAG, 0, 0, 0, 0));
}

static void requeue_refusals(void)
{
	struct timespec past = {1, 0};
	word = other = plain = 0;
	printf("same %ld %ld\n", futex(&plain, FUTEX_WAIT_REQUEUE_PI, 0, 0, &plain, 0), futex(&plain, FUTEX_CMP_REQUEUE_PI, 1, 0, &plain, 0));
	printf("value %ld %ld\n", futex(&plain, FUTEX_WAIT_REQUEUE_PI, 1, 0, &word, 0), futex(&plain, FUTEX_CMP_REQUEUE_PI, 1, 0, &word, 1));
	printf("wakes %ld %ld\n", futex(&plain, FUTEX_CMP_REQUEUE_PI, 0, 0, &word, 0), futex(&plain, FUTEX_CMP_REQUEUE_PI, 2, 0, &word, 0));
	printf("nobody %ld\n", futex(&plain, FUTEX_CMP_REQUEUE_PI, 1, (void *)5, &word, 0));
	printf("negative %ld\n", futex(&plain, FUTEX_CMP_REQUEUE_PI, 1, (void *)-1, &word, 0));
	printf("past %ld\n", futex(&plain, FUTEX_WAIT_REQUEUE_PI, 0, &past, &word, 0));
}

static void handing_over(void)
{
	pthread_t one;
	word = 0; step = 0;
	futex(&word, FUTEX_LOCK_PI, 0, 0, 0, 0);
	pthread_create(&one, 0, lock_and_tell, "one");
	while (!(word & FUTEX_WAITERS)) sched_yield();
	pause_a_little();
	printf("mine %s\n", says(word));
	printf("wake of a mutex %ld\n", futex(&word, FUTEX_WAKE, 1, 0, 0, 0));
	printf("requeue of a mutex %ld\n", futex(&word, FUTEX_REQUEUE, 0, (void *)1, &other, 0));
	printf("unlock %ld %s\n", futex(&word, FUTEX_UNLOCK_PI, 0, 0, 0, 0), says(word));
	printf("not mine %ld\n", futex(&word, FUTEX_UNLOCK_PI, 0, 0, 0, 0));
	pthread_join(one, 0);
	printf("after %s\n", says(word));
}

static void *take_both(void *_)
{
	futex(&other, FUTEX_LOCK_PI, 0, 0, 0, 0);
	step = 1;
	long got = futex(&word, FUTEX_LOCK_PI, 0, 0, 0, 0);
	printf("behind the deadlock %ld\n", got);
	futex(&word, FUTEX_UNLOCK_PI, 0, 0, 0, 0);
	futex(&other, FUTEX_UNLOCK_PI, 0, 0, 0, 0);
	return 0;
}

static void deadlock(void)
{
	pthread_t one;
	word = other = 0; step = 0;
	futex(&word, FUTEX_LOCK_PI, 0, 0, 0, 0);
	pthread_create(&one, 0, take_both, 0);
	while (!step || !(word & FUTEX_WAITERS)) sched_yield();
	pause_a_little();
	printf("deadlock %ld\n", futex(&other, FUTEX_LOCK_PI, 0, 0, 0, 0));
	printf("try %ld\n", futex(&other, FUTEX_TRYLOCK_PI, 0, 0, 0, 0));
	struct timespec past = {1, 0};
	printf("other's %ld\n", futex(&other, FUTEX_UNLOCK_PI, 0, 0, 0, 0));
	futex(&word, FUTEX_UNLOCK_PI, 0, 0, 0, 0);
	pthread_join(one, 0);
}

static void *hold_and_wait(void *_)
{
	futex(&word, FUTEX_LOCK_PI, 0, 0, 0, 0);
	step = 1;
	while (step == 1) pause_a_little();
	futex(&word, FUTEX_UNLOCK_PI, 0, 0, 0, 0);
	return 0;
}

static void on_alarm(int _) { step++; }

static void times(void)
{
	pthread_t one;
	struct timespec soon;
	word = 0; step = 0;
	pthread_create(&one, 0, hold_and_wait, 0);
	while (!step) sched_yield();
	clock_gettime(CLOCK_REALTIME, &soon);
	soon.tv_nsec += 30000000;
	if (soon.tv_nsec >= 1000000000) soon.tv_sec++, soon.tv_nsec -= 1000000000;
	printf("late %ld %s\n", futex(&word, FUTEX_LOCK_PI, 0, &soon, 0, 0), says(word));
	clock_gettime(CLOCK_MONOTONIC, &soon);
	soon.tv_nsec += 30000000;
	if (soon.tv_nsec >= 1000000000) soon.tv_sec++, soon.tv_nsec -= 1000000000;
	printf("late %ld\n", futex(&word, FUTEX_LOCK_PI2, 0, &soon, 0, 0));
	printf("busy %ld\n", futex(&word, FUTEX_TRYLOCK_PI, 0, 0, 0, 0));
	step = 2;
	pthread_join(one, 0);
	printf("in the end %s\n", says(word));
}

static void *die_with_it(void *_)
{
	futex(&word, FUTEX_LOCK_PI, 0, 0, 0, 0);
	step = 1;
	while (step == 1) pause_a_little();
	pause_a_little();
	return 0;
}

static void an_owner_that_ends(void)
{
	pthread_t one;
	word = 0; step = 0;
	pthread_create(&one, 0, die_with_it, 0);
	while (!step) sched_yield();
	step = 2;
	printf("heir %ld", futex(&word, FUTEX_LOCK_PI, 0, 0, 0, 0));
	printf(" %s\n", says(word));
	pthread_join(one, 0);
	printf("unlock %ld %s\n", futex(&word, FUTEX_UNLOCK_PI, 0, 0, 0, 0), says(word));
	step = 0;
	pthread_create(&one, 0, die_with_it, 0);
	while (!step) sched_yield();
	step = 2;
	pthread_join(one, 0);
	pause_a_little();
	printf("nobody's %ld\n", futex(&word, FUTEX_LOCK_PI, 0, 0, 0, 0));
}

static void *wait_for_both(void *given)
{
	long got = futex(&plain, FUTEX_WAIT_REQUEUE_PI, 0, 0, &word, 0);
	__sync_fetch_and_add(&step, 1);
	if (got || (word & FUTEX_TID_MASK) != tid()) printf("woken %ld %s\n", got, says(word));
	got = futex(&word, FUTEX_UNLOCK_PI, 0, 0, 0, 0);
	if (got) printf("let go %ld\n", got);
	return 0;
}

static void requeueing(void)
{
	pthread_t threads[3];
	word = plain = other = 0; step = 0;
	for (int n = 0; n < 3; n++) pthread_create(&threads[n], 0, wait_for_both, 0);
	pause_a_little(); pause_a_little();
	printf("plain wake %ld\n", futex(&plain, FUTEX_WAKE, 1, 0, 0, 0));
	printf("plain move %ld\n", futex(&plain, FUTEX_CMP_REQUEUE, 1, (void *)1, &word, 0));
	printf("elsewhere %ld\n", futex(&plain, FUTEX_CMP_REQUEUE_PI, 1, (void *)1, &other, 0));
	futex(&word, FUTEX_LOCK_PI, 0, 0, 0, 0);
	printf("move %ld %s\n", futex(&plain, FUTEX_CMP_REQUEUE_PI, 1, (void *)0, &word, 0), says(word));
	printf("move %ld %s\n", futex(&plain, FUTEX_CMP_REQUEUE_PI, 1, (void *)10, &word, 0), says(word));
	futex(&word, FUTEX_UNLOCK_PI, 0, 0, 0, 0);
	for (int n = 0; n < 3; n++) pthread_join(threads[n], 0);
	printf("all %d %s\n", step, says(word));
}

static pthread_mutex_t mutex;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int count;

static void *many(void *_)
{
	for (int n = 0; n < 50; n++) { pthread_mutex_lock(&mutex); int c = count; if (n % 10 == 0) sched_yield(); count = c + 1; pthread_mutex_unlock(&mutex); }
	pthread_mutex_lock(&mutex);
	step++;
	pthread_cond_broadcast(&cond);
	while (step < 4) pthread_cond_wait(&cond, &mutex);
	pthread_mutex_unlock(&mutex);
	return 0;
}

static void *leave_it(void *_) { pthread_mutex_lock(&mutex); return 0; }

static void by_pthread(void)
{
	pthread_mutexattr_t attr;
	pthread_t threads[4];
	pthread_mutexattr_init(&attr);
	printf("inherit %d\n", pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT));
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK);
	pthread_mutex_init(&mutex, &attr);
	printf("lock %d again %d try %d\n", pthread_mutex_lock(&mutex), pthread_mutex_lock(&mutex), pthread_mutex_trylock(&mutex));
	printf("unlock %d again %d\n", pthread_mutex_unlock(&mutex), pthread_mutex_unlock(&mutex));
	step = count = 0;
	for (int n = 0; n < 4; n++) pthread_create(&threads[n], 0, many, 0);
	for (int n = 0; n < 4; n++) pthread_join(threads[n], 0);
	printf("count %d\n", count);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&mutex, &attr);
	pthread_create(threads, 0, leave_it, 0);
	pthread_join(threads[0], 0);
	int got = pthread_mutex_lock(&mutex);
	printf("died %d\n", got == EOWNERDEAD);
	printf("consistent %d unlock %d\n", pthread_mutex_consistent(&mutex), pthread_mutex_unlock(&mutex));
	printf("lock %d\n", pthread_mutex_lock(&mutex));
	pthread_mutex_unlock(&mutex);
}

int main(void)
{
	setvbuf(stdout, 0, _IONBF, 0);
	alone();
	requeue_refusals();
	handing_over();
	deadlock();
	times();
	an_owner_that_ends();
	requeueing();
	by_pthread();
	return 0;
}
