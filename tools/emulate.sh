#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
#     sh tools/emulate.sh DIR [MODEL.eqm ...]
#
# Runs kernelcheck and the golden cases of tests/golden/ and of MODELs under qemu-x86_64 as older
# processors, where an instruction that leaked out of its folder is illegal. Builds into DIR.
# Skips, with a message, without qemu-x86_64 or on other machines. qemu 7.2 knows AVX2, but neither
# AVX-VNNI nor AVX-512. CASES (default 300): cases of each slot.
set -eu
cd "$(dirname "$0")/.."
out=${1:?usage: emulate.sh DIR [MODEL.eqm ...]}
shift
compiler=${CC:-cc}
cases=${CASES:-300}

skip() { echo "emulate: skipped: $*"; exit 0; }
fail() { echo "emulate: $*" >&2; exit 1; }
command -v qemu-x86_64 >/dev/null || skip "qemu-x86_64 is not installed (Debian: qemu-user)"
case $($compiler -dumpmachine) in
    x86_64* | amd64*) ;;
    *) skip "$compiler does not compile for x86-64" ;;
esac
as() { cpu=$1; shift; qemu-x86_64 -cpu "$cpu" "$@" 2>"$out/stderr.txt"; }

mkdir -p "$out"
objects=''
for file in $(find src_c -name '*.c'); do
    object=$out/$(echo "${file%.c}" | tr / _).o
    $compiler -O2 -Isrc_c -Isrc_c/include -c "$file" -o "$object"
    objects="$objects $object"
done
# Static where there is a static libc, so that nothing but these files decides about instructions.
build() {
    name=$1
    shift
    # shellcheck disable=SC2086
    for static in -static ''; do
        $compiler -O2 -pthread -Isrc_c -Isrc_c/include $static "$@" $objects -o "$out/$name" \
            2>"$out/stderr.txt" && return
    done
    cat "$out/stderr.txt" >&2
    fail "$name does not compile"
}
build kernelcheck tests/kernelcheck/*.c
build verify tests/c/verify.c

# The emulator itself: an AVX2 instruction must be illegal on Nehalem and run on Haswell.
echo 'int main(void) { __asm__ volatile("vpaddb %ymm0, %ymm0, %ymm0; vzeroupper"); return 0; }' \
    >"$out/avx2.c"
$compiler -O2 "$out/avx2.c" -o "$out/avx2"
if as Nehalem "$out/avx2"; then fail "this qemu runs AVX2 on Nehalem: it would not find a leak"; fi
as Haswell "$out/avx2" || fail "this qemu does not run AVX2 on Haswell"

for pair in Nehalem:scalar Haswell:avx2; do
    cpu=${pair%:*} isa=${pair#*:}
    as "$cpu" "$out/verify" tests/golden/*.eqm "$@" >"$out/verify.txt" \
        || { cat "$out/verify.txt" "$out/stderr.txt"; fail "$cpu: golden cases failed"; }
    files=$(grep -c ", $isa\$" "$out/verify.txt" || true)
    [ "$files" -eq "$(wc -l <"$out/verify.txt")" ] \
        || { cat "$out/verify.txt"; fail "$cpu must run $isa kernels"; }
    as "$cpu" "$out/kernelcheck" --cases "$cases" >"$out/kernelcheck.txt" \
        || { cat "$out/kernelcheck.txt" "$out/stderr.txt"; fail "$cpu: kernelcheck failed"; }
    echo "$cpu: $isa; golden cases of $files files;" \
        "$(grep -c PASS "$out/kernelcheck.txt") slots, $cases cases each"
done
