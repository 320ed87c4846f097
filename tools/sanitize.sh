#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
#     sh tools/sanitize.sh DIR [COUNT]
#
# Builds the C library with AddressSanitizer and UndefinedBehaviorSanitizer into DIR, then opens and
# runs the good golden files, the bad ones, and COUNT (default 2000) mutants of each good one; checks
# the integer form of the uint8 bilinear resize against binary32; makes inputs from pictures; runs
# sessions of several threads, also under ThreadSanitizer.
set -eu
cd "$(dirname "$0")/.."
out=${1:?usage: sanitize.sh DIR [COUNT]}
count=${2:-2000}
mkdir -p "$out"
flags="-std=c11 -g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
warn="-Wall -Wextra -Wconversion -Wshadow -Werror"
sources=$(find src_c/core src_c/ops src_c/io src_c/kernels -name '*.c')
include="-pthread -ffp-contract=off -Isrc_c -Isrc_c/include"

# library NAME FLAGS: the C library's objects, compiled once for all programs with these flags.
library() {
    rm -rf "$out/$1"
    mkdir -p "$out/$1"
    for source in $sources; do
        echo "$source $out/$1/$(echo "$source" | tr / _).o"
    done | xargs -P "$(getconf _NPROCESSORS_ONLN)" -L 1 sh -c \
        "${CC:-cc} $2 $warn $include -c \"\$0\" -o \"\$1\""
}

# program NAME SOURCE LIBRARY FLAGS
program() {
    # shellcheck disable=SC2086
    ${CC:-cc} $4 $warn $include -o "$out/$1" "tests/c/$2.c" "$out/$3"/*.o
}

library plain "$flags"
for name in mutate resize_u8 pictures; do
    program "$name" "$name" plain "$flags"
done
# Threads, with every layer split: by the same sanitizers, then by ThreadSanitizer.
small="-DEQ_SPLIT_NS=1 -DEQ_PART_MIN_NS=1"
library split "$flags $small"
program threads threads split "$flags $small"
"$out/threads" tests/golden/*.eqm
flags_tsan="-std=c11 -g -O1 -fsanitize=thread $small"
library tsan "$flags_tsan"
program threads_tsan threads tsan "$flags_tsan"
TSAN_OPTIONS=halt_on_error=1 "$out/threads_tsan" tests/golden/*.eqm
"$out/resize_u8" 2000
"$out/pictures" tests/golden/picture.eqm tests/golden/moves.eqm
for file in tests/golden/*.eqm; do
    "$out/mutate" "$file" "$count"
done
for file in tests/golden/bad/*.eqm; do
    "$out/mutate" "$file" 0 >"$out/last.txt" || { cat "$out/last.txt"; exit 1; }
done
echo "$(ls tests/golden/bad/*.eqm | wc -l) bad files opened"
