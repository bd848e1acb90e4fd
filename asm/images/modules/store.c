/*
 * /dev/store: kernel data in a user process (post 002: "you must write a daemon whose sole purpose is storing data for the
 * kernel - and it had better not crash!").  The daemon is who opens the device first.  Its read gives the next request and
 * sleeps until there is one; its write answers.  Everybody else: ioctl 1 stores the word at `argument`+4 under the key at
 * `argument`, ioctl 2 loads it; -EIO when the daemon is gone.
 */
#include "module.h"

struct request { u32 op, key, value; };

static struct request request;
static int daemon_file, state;          /* 0 idle, 1 asked, 2 with the daemon, 3 answered */
static int asked, answered, idle;

static int open(int file)
{
        if (!daemon_file)
                daemon_file = file;
        mod_inc_use_count();
        return 0;
}

static int release(int file)
{
        mod_dec_use_count();
        if (file == daemon_file) {
                daemon_file = 0;
                printk("store: the daemon is gone\n");
                wake_up(&answered);
                wake_up(&idle);
        }
        return 0;
}

static int read(int file, char *user, u32 count)
{
        if (file != daemon_file || count < sizeof request)
                return -EINVAL;
        while (state != 1)
                if (interruptible_sleep_on(&asked))
                        return -512;
        state = 2;
        return copy_to_user(user, &request, sizeof request) ? -EFAULT : (int)sizeof request;
}

static int write(int file, const char *user, u32 count)
{
        if (file != daemon_file || state != 2 || count != sizeof request)
                return -EINVAL;
        if (copy_from_user(&request, user, count))
                return -EFAULT;
        state = 3;
        wake_up(&answered);
        return count;
}

static int ioctl(int file, u32 op, u32 argument)
{
        u32 pair[2];

        if (file == daemon_file || (op != 1 && op != 2))
                return -EINVAL;
        if (copy_from_user(pair, (void *)argument, sizeof pair))
                return -EFAULT;
        while (state && daemon_file)
                sleep_on(&idle);
        if (!daemon_file)
                return -EIO;
        request.op = op, request.key = pair[0], request.value = pair[1];
        state = 1;
        wake_up(&asked);
        while (state != 3 && daemon_file)
                sleep_on(&answered);
        pair[1] = request.value;
        op = state == 3;
        state = 0;
        wake_up(&idle);
        if (!op)
                return -EIO;
        return copy_to_user((void *)argument, pair, sizeof pair) ? -EFAULT : 0;
}

static const struct file_operations operations = { open, release, read, write, ioctl };

int init_module(void) { return register_chrdev("store", &operations) < 0; }
void cleanup_module(void) { unregister_chrdev("store"); }
