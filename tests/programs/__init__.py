"""Programs that nobody here wrote: Debian's, for i386."""
