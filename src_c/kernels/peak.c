/* SPDX-License-Identifier: Apache-2.0
 *
 * How many multiply-accumulates of int8 an instruction set does at best: loops on registers alone,
 * with more independent sums than a multiplication takes cycles. For reports, never for results. */
#include "kernels/kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)

#define TWELVE(one) \
    one(0) one(1) one(2) one(3) one(4) one(5) one(6) one(7) one(8) one(9) one(10) one(11)
#define CLOBBERED \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
#define CLOBBERED_HIGH \
    "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", \
        "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31"

/* Sixteen products of 16-bit numbers, added in pairs, then to 32-bit sums. */
#define MADD(n) "vpmaddwd %%ymm14, %%ymm15, %%ymm13\n\tvpaddd %%ymm13, %%ymm" #n ", %%ymm" #n "\n\t"

__attribute__((target("avx2"))) static uint64_t turns_avx2(uint32_t turns)
{
    for (uint32_t i = 0; i < turns; i++)
        __asm__ volatile(TWELVE(MADD)::: CLOBBERED);
    __asm__ volatile("vzeroupper" ::: CLOBBERED);
    return (uint64_t)turns * 12 * 16;
}

/* Four products for each of eight sums. */
#define DOT(n) "%{vex%} vpdpbusd %%ymm14, %%ymm15, %%ymm" #n "\n\t"

__attribute__((target("avx2"))) static uint64_t turns_avxvnni(uint32_t turns)
{
    for (uint32_t i = 0; i < turns; i++)
        __asm__ volatile(TWELVE(DOT)::: CLOBBERED);
    __asm__ volatile("vzeroupper" ::: CLOBBERED);
    return (uint64_t)turns * 12 * 32;
}

/* Four products for each of sixteen sums; registers 0 ... 11 and 16 ... 27. */
#define DOT_512(n) "vpdpbusd %%zmm14, %%zmm15, %%zmm" #n "\n\t"
#define TWELVE_HIGH(one) \
    one(16) one(17) one(18) one(19) one(20) one(21) one(22) one(23) one(24) one(25) one(26) one(27)

__attribute__((target("avx512f,avx512vnni"))) static uint64_t turns_avx512vnni(uint32_t turns)
{
    for (uint32_t i = 0; i < turns; i++)
        __asm__ volatile(TWELVE(DOT_512) TWELVE_HIGH(DOT_512)::: CLOBBERED, CLOBBERED_HIGH);
    __asm__ volatile("vzeroupper" ::: CLOBBERED);
    return (uint64_t)turns * 24 * 64;
}

uint64_t eq_kernels_peak(uint32_t isa, uint32_t turns)
{
    switch (isa) {
    case EQ_ISA_avx2: return turns_avx2(turns);
    case EQ_ISA_avxvnni: return turns_avxvnni(turns);
    case EQ_ISA_avx512vnni: return turns_avx512vnni(turns);
    default: return 0;
    }
}

#else

uint64_t eq_kernels_peak(uint32_t isa, uint32_t turns)
{
    (void)isa, (void)turns;
    return 0;
}

#endif
