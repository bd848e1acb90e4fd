/*
 * /dev/uaccess, for the images of user access.  The device holds 64 KB of kernel memory; the file's last ioctl chooses how
 * read and write copy, and what a copy could not do is kept for request 2.
 *
 *      1 mode        0 copy_to_user and copy_from_user, 1 verify_area and memcpy_tofs/fromfs, 2 words, one by one
 *      2             bytes that the last copy left out
 *      3 address     verify_area(VERIFY_WRITE, address, 8192)
 *      4 address     verify_area, then sleep until request 5, then memcpy_tofs: the race
 *      5             wake whoever sleeps in 4
 *      6 pid         read another task's word at `where` through use_mm
 *      7 pid         the same after set_current, which changes current and nothing else
 *      8 address     `where`
 *      10 pid        set_current, and back to the program with it
 *      9             a word below TASK_SIZE and one above, through FS = KERNEL_DS
 */
#include "module.h"

#define SIZE 65536u

static u8 *buffer;
static u32 mode, left, where, word;
static int waiting;

static int read(int file, char *user, u32 count)
{
        u32 at;

        count = count < SIZE ? count : SIZE;
        left = 0;
        if (mode == 0) {
                left = copy_to_user(user, buffer, count);
        } else if (verify_area(VERIFY_WRITE, user, count)) {
                return -EFAULT;
        } else if (mode == 1) {
                memcpy_tofs(user, buffer, count);
        } else {
                for (at = 0; at + 4 <= count; at += 4)
                        put_fs_long(*(u32 *)(buffer + at), user + at);
                for (; at < count; at++)
                        put_fs_byte(buffer[at], user + at);
        }
        return count - left ? (int)(count - left) : -EFAULT;
}

static int write(int file, const char *user, u32 count)
{
        u32 at;

        count = count < SIZE ? count : SIZE;
        left = 0;
        if (mode == 0) {
                left = copy_from_user(buffer, user, count);
        } else if (verify_area(VERIFY_READ, user, count)) {
                return -EFAULT;
        } else if (mode == 1) {
                memcpy_fromfs(buffer, user, count);
        } else {
                for (at = 0; at + 4 <= count; at += 4)
                        *(u32 *)(buffer + at) = get_fs_long(user + at);
                for (; at < count; at++)
                        buffer[at] = get_fs_byte(user + at);
        }
        return count - left ? (int)(count - left) : -EFAULT;
}

static int ioctl(int file, u32 request, u32 argument)
{
        int result;

        switch (request) {
        case 1: mode = argument; return 0;
        case 2: return left;
        case 3: return verify_area(VERIFY_WRITE, (void *)argument, 2 * PAGE_SIZE);
        case 4:
                if (verify_area(VERIFY_WRITE, (void *)argument, 4))
                        return -EFAULT;
                waiting = 1;
                sleep_on(&waiting);
                memcpy_tofs((void *)argument, buffer, 4);
                return 0;
        case 5:
                if (waiting)
                        wake_up(&waiting);
                return waiting;
        case 6:
                result = use_mm(argument);
                if (result)
                        return result;
                result = copy_from_user(&word, (void *)where, 4);
                unuse_mm();
                return result ? -EFAULT : (int)word;
        case 7:
                result = set_current(argument);
                if (result)
                        return result;
                result = copy_from_user(&word, (void *)where, 4);
                set_current(0);
                return result ? -EFAULT : (int)word;
        case 8: where = argument; return 0;
        case 10: return set_current(argument);
        case 9:
                set_fs(get_ds());
                result = get_fs_long(&word) == word && verify_area(VERIFY_WRITE, &word, 4) == 0;
                set_fs(USER_DS);
                return result && verify_area(VERIFY_WRITE, &word, 4) == -EFAULT;
        }
        return -EINVAL;
}

static const struct file_operations operations = { 0, 0, read, write, ioctl };

int init_module(void)
{
        u32 at;

        buffer = vmalloc(SIZE);
        CHECK(1, buffer != NULL);
        for (at = 0; at < SIZE; at++)
                buffer[at] = at * 7 + (at >> 8);
        return register_chrdev("uaccess", &operations) < 0;
}

void cleanup_module(void)
{
        unregister_chrdev("uaccess");
        vfree(buffer);
}
