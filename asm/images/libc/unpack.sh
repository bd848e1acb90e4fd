#!/bin/sh
# Unpack Debian i386 packages into a folder:  unpack.sh FOLDER < list
#
# A line of the list is a name, a version and the SHA-256 of the package.  One that the archive does not have, or that is
# not byte for byte the one named, is refused by name; the exit status is then 1, and the others are unpacked.  A package
# is kept in build/packages, where it is looked for first.
#
# The machine stays as it is: apt-get works on lists of its own below build/packages, with i386 as its only architecture,
# and asks whatever sources the machine is configured with.
set -eu

mkdir -p "$1"
target=$(cd "$1" && pwd)
store=$(cd "$(dirname "$0")/../../.." && pwd)/build/packages
mkdir -p "$store/lists/partial" "$store/cache/archives/partial"
: > "$store/status"
cat > "$store/apt.conf" <<END
Dir::State::Lists "$store/lists";
Dir::State::status "$store/status";
Dir::Cache "$store/cache";
APT::Architecture "i386";
APT::Architectures { "i386"; };
APT::Sandbox::User "root";
END
export APT_CONFIG="$store/apt.conf"
cd "$store"

updated=
missing=0
while read -r name version sum; do
    [ -n "$name" ] || continue
    file=$(ls "${name}_"*_i386.deb 2>/dev/null | head -n 1)
    if [ -z "$file" ] || ! echo "$sum  $file" | sha256sum --check --status; then
        rm -f "${name}_"*_i386.deb
        [ -n "$updated" ] || apt-get -qq update || echo "some package lists are missing; trying with what came" >&2
        updated=yes
        if ! apt-get -qq download "$name=$version"; then
            echo "$name $version: the archive does not have it" >&2
            missing=1
            continue
        fi
        file=$(ls "${name}_"*_i386.deb)
        if ! echo "$sum  $file" | sha256sum --check --status; then
            echo "$file: not the package that was meant" >&2
            rm -f "$file"
            missing=1
            continue
        fi
    fi
    dpkg-deb -x "$file" "$target"
    echo "$name" >> "$target/.unpacked"
done
exit $missing
