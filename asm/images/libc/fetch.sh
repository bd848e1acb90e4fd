#!/bin/sh
# Bring the C libraries that the libc images are linked with into build/libc, from Debian's i386 packages.
#
#   build/libc/musl/    include/ lib/       for hello and cat
#   build/libc/klibc/   include/ lib/       for sort
#   build/libc/gcc/     libgcc.a            64-bit division and the like, for both
#
# The machine stays as it is: apt-get works on lists and a cache of its own below build/libc/apt, with i386 as its only
# architecture, and asks whatever sources the machine is configured with.  A package that is not byte for byte the one
# named here is refused.
set -eu

PACKAGES='
musl-dev        1.2.3-1             e7e49904a302b4c986cc7729b1af9117f7a01a928b12c43e75bdd015697bff82
libklibc-dev    2.0.12-1            5ae3c106336ef3cf189c9a8076ea544a2ad1621c753c997e2e739859dfb87ad8
libgcc-12-dev   12.2.0-14+deb12u1   d25bdc547dc760f2c48aa808dcd0c4f3b5bd124daa3b47186ee6070ea57d85f1
'

root=$(cd "$(dirname "$0")/../../.." && pwd)
target=$root/build/libc
apt=$target/apt

if [ -e "$target/complete" ]; then
    echo "build/libc is complete"
    exit 0
fi
rm -rf "$target"
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/unpacked"
: > "$apt/status"
cat > "$apt/apt.conf" <<END
Dir::State::Lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
APT::Architecture "i386";
APT::Architectures { "i386"; };
APT::Sandbox::User "root";
END
export APT_CONFIG="$apt/apt.conf"

apt-get -qq update || echo "some package lists are missing; trying with what came" >&2
cd "$apt"
echo "$PACKAGES" | while read -r name version sum; do
    [ -n "$name" ] || continue
    apt-get -qq download "$name=$version"
    file=$(ls "${name}_"*_i386.deb)
    echo "$sum  $file" | sha256sum --check --quiet || { echo "$file: not the package that was meant" >&2; exit 1; }
    dpkg-deb -x "$file" unpacked
done

mkdir "$target/musl" "$target/klibc" "$target/gcc"
mv unpacked/usr/include/i386-linux-musl "$target/musl/include"
mv unpacked/usr/lib/i386-linux-musl "$target/musl/lib"
mv unpacked/usr/lib/klibc/include "$target/klibc/include"
mv unpacked/usr/lib/klibc/lib "$target/klibc/lib"
mv unpacked/usr/lib/gcc/i686-linux-gnu/12/libgcc.a "$target/gcc/libgcc.a"
rm "$target/klibc/include/asm"              # a link to headers that are not in the package: see sandbox/image/libc.py
rm -rf "$apt"
touch "$target/complete"
echo "build/libc: musl, klibc and libgcc are there"
