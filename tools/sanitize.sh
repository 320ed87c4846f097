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
for program in mutate resize_u8 pictures; do
    # shellcheck disable=SC2086
    ${CC:-cc} $flags $warn -pthread -ffp-contract=off -Isrc_c -Isrc_c/include -o "$out/$program" \
        "tests/c/$program.c" $sources
done
# Threads, with every layer split: by the same sanitizers, then by ThreadSanitizer.
small="-DEQ_SPLIT_NS=1 -DEQ_PART_MIN_NS=1"
# shellcheck disable=SC2086
${CC:-cc} $flags $warn $small -pthread -ffp-contract=off -Isrc_c -Isrc_c/include \
    -o "$out/threads" tests/c/threads.c $sources
"$out/threads" tests/golden/*.eqm
# shellcheck disable=SC2086
${CC:-cc} -std=c11 -g -O1 -fsanitize=thread $warn $small -pthread -ffp-contract=off -Isrc_c \
    -Isrc_c/include -o "$out/threads_tsan" tests/c/threads.c $sources
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
