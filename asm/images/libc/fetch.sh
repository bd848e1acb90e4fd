#!/bin/sh
# Bring the C libraries that the libc images are linked with into build/libc, from Debian's i386 packages.
#
#   build/libc/musl/    include/ lib/       for hello and cat
#   build/libc/klibc/   include/ lib/       for sort
#   build/libc/gcc/     libgcc.a            64-bit division and the like, for both
set -eu

PACKAGES='
musl-dev        1.2.3-1             e7e49904a302b4c986cc7729b1af9117f7a01a928b12c43e75bdd015697bff82
libklibc-dev    2.0.12-1            5ae3c106336ef3cf189c9a8076ea544a2ad1621c753c997e2e739859dfb87ad8
libgcc-12-dev   12.2.0-14+deb12u1   d25bdc547dc760f2c48aa808dcd0c4f3b5bd124daa3b47186ee6070ea57d85f1
'

here=$(cd "$(dirname "$0")" && pwd)
target=$here/../../../build/libc
unpacked=$target/unpacked

if [ -e "$target/complete" ]; then
    echo "build/libc is complete"
    exit 0
fi
rm -rf "$target"
echo "$PACKAGES" | "$here/unpack.sh" "$unpacked"

mkdir "$target/musl" "$target/klibc" "$target/gcc"
mv "$unpacked/usr/include/i386-linux-musl" "$target/musl/include"
mv "$unpacked/usr/lib/i386-linux-musl" "$target/musl/lib"
mv "$unpacked/usr/lib/klibc/include" "$target/klibc/include"
mv "$unpacked/usr/lib/klibc/lib" "$target/klibc/lib"
mv "$unpacked/usr/lib/gcc/i686-linux-gnu/12/libgcc.a" "$target/gcc/libgcc.a"
rm "$target/klibc/include/asm"              # a link to headers that are not in the package: see sandbox/image/libc.py
rm -rf "$unpacked"
touch "$target/complete"
echo "build/libc: musl, klibc and libgcc are there"
