/* cat: files, or standard input for "-" and when none is named, to standard output; -n numbers the lines.
 *
 * The buffer is on the stack, 16 pages of it.  Nothing is there when the function is entered: a push at the far end
 * makes the stack grow at one stroke, and read(2) fills pages in the middle, where the kernel's copy is the first to
 * come.
 *
 * Faults: the far end: user write not-present -> stack-growth; the middle: kernel write not-present -> demand-zero. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int numbered;
static unsigned line = 1;
static int at_start = 1;

static int put(const char *data, size_t size)
{
    while (size) {
        ssize_t done = write(STDOUT_FILENO, data, size);
        if (done < 0)
            return -1;
        data += done;
        size -= (size_t)done;
    }
    return 0;
}

static int put_numbered(const char *data, size_t size)
{
    while (size) {
        const char *newline = memchr(data, '\n', size);
        size_t length = newline ? (size_t)(newline - data) + 1 : size;
        char number[16];

        if (at_start && put(number, (size_t)snprintf(number, sizeof number, "%6u\t", line++)))
            return -1;
        if (put(data, length))
            return -1;
        at_start = newline != NULL;
        data += length;
        size -= length;
    }
    return 0;
}

static int cat(int fd)
{
    char buffer[65536], *middle = buffer + sizeof buffer / 2;
    ssize_t size;

    while ((size = read(fd, middle, sizeof buffer / 2)) > 0)
        if (numbered ? put_numbered(middle, (size_t)size) : put(middle, (size_t)size))
            return -1;
    return (int)size;
}

int main(int argc, char **argv)
{
    int first = 1, status = 0;

    if (argc > 1 && !strcmp(argv[1], "-n")) {
        numbered = 1;
        first = 2;
    }
    if (first == argc)
        return cat(STDIN_FILENO) != 0;
    for (int each = first; each < argc; each++) {
        int standard = !strcmp(argv[each], "-");
        int fd = standard ? STDIN_FILENO : open(argv[each], O_RDONLY);

        if (fd < 0 || cat(fd)) {
            fprintf(stderr, "cat: %s: %s\n", argv[each], strerror(errno));
            status = 1;
        }
        if (fd > 0)
            close(fd);
    }
    return status;
}
