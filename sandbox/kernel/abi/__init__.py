"""The Linux i386 binary interface as data: numbers, flags, error codes and structure layouts."""
