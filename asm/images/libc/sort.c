/* sort: the lines of standard input in order, -r for the other way round.
 *
 * klibc needs little: no thread-local storage, no instruction beyond the 386.  Its malloc takes everything from mmap or
 * brk in large pieces; realloc moves the table of lines as it grows. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 512 };

static int direction = 1;

static int compare(const void *left, const void *right)
{
    return direction * strcmp(*(char *const *)left, *(char *const *)right);
}

int main(int argc, char **argv)
{
    static char buffer[LONGEST];
    char **lines = NULL;
    size_t count = 0, room = 0;

    if (argc > 1 && !strcmp(argv[1], "-r"))
        direction = -1;
    while (fgets(buffer, sizeof buffer, stdin)) {
        if (count == room) {
            room = room ? 2 * room : 4;
            lines = realloc(lines, room * sizeof *lines);
            if (!lines)
                return 1;
        }
        lines[count] = strdup(buffer);
        if (!lines[count++])
            return 1;
    }
    if (ferror(stdin))
        return 1;
    qsort(lines, count, sizeof *lines, compare);
    for (size_t each = 0; each < count; each++)
        fputs(lines[each], stdout);
    return fflush(stdout) != 0;
}
