#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
#     sh tools/sanitize.sh DIR [COUNT]
#
# Builds the C library with AddressSanitizer and UndefinedBehaviorSanitizer into DIR, then opens and
# runs the good and the bad golden files and COUNT (default 2000) mutants of each good one.
set -eu
cd "$(dirname "$0")/.."
out=${1:?usage: sanitize.sh DIR [COUNT]}
count=${2:-2000}
mkdir -p "$out"
flags="-std=c11 -g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
warn="-Wall -Wextra -Wconversion -Wshadow -Werror"
sources=$(find src_c/core src_c/ops src_c/io src_c/kernels -name '*.c')
# shellcheck disable=SC2086
${CC:-cc} $flags $warn -Isrc_c -Isrc_c/include -o "$out/mutate" tests/c/mutate.c $sources
for file in tests/golden/*.eqm; do
    "$out/mutate" "$file" "$count"
done
