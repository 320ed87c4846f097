/* SPDX-License-Identifier: Apache-2.0 */
#include "core/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* XCR0: the registers that the system saves; needs OSXSAVE. */
static uint32_t saved_state(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* With these registers saved. Bits are those of Intel's SDM, volume 2, CPUID, leaves 1 and 7. */
static uint32_t features_with(uint32_t saved)
{
    enum { AVX = 1 << 28, FMA = 1 << 12 };                           /* 1: ecx */
    enum { AVX2 = 1 << 5, F = 1 << 16, DQ = 1 << 17, BW = 1 << 30 }; /* 7.0: ebx */
    enum { VBMI = 1 << 1, VNNI = 1 << 11 };                          /* 7.0: ecx */
    enum { AVX_VNNI = 1 << 4 };                                      /* 7.1: eax */
    enum { YMM = 0x06, ZMM = 0xe6 };                                 /* XCR0 */
    const uint32_t vl = UINT32_C(1) << 31;                           /* 7.0: ebx */
    uint32_t a, b, c, d, features = 0;

    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (AVX | FMA)) != (AVX | FMA))
        return 0;
    if ((saved & YMM) != YMM || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & AVX2))
        return 0;
    features = EQ_CPU_AVX2;
    const uint32_t wanted = F | DQ | BW | vl;
    if ((saved & ZMM) == ZMM && (b & wanted) == wanted && (c & VNNI)) {
        features |= EQ_CPU_AVX512VNNI;
        if (c & VBMI)
            features |= EQ_CPU_AVX512VBMI;
    }
    if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & AVX_VNNI))
        features |= EQ_CPU_AVXVNNI;
    return features;
}

uint32_t eq_cpu_features(void)
{
    const uint32_t osxsave = 1 << 27; /* leaf 1, ecx */
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & osxsave))
        return 0;
    return features_with(saved_state());
}

uint32_t eq_cpu_unsaved(void)
{
    return features_with(UINT32_MAX) & ~eq_cpu_features();
}
#else
uint32_t eq_cpu_features(void)
{
    return 0;
}

uint32_t eq_cpu_unsaved(void)
{
    return 0;
}
#endif
