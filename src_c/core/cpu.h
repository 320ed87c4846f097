/* SPDX-License-Identifier: Apache-2.0
 *
 * What this machine's processor can do. */
#ifndef EQ_CORE_CPU_H
#define EQ_CORE_CPU_H

#include <stdint.h>

enum {
    EQ_CPU_AVX2 = 1 << 0,       /* AVX2 and FMA, and the system saves ymm registers */
    EQ_CPU_AVXVNNI = 1 << 1,    /* vpdpbusd in VEX encoding */
    EQ_CPU_AVX512VNNI = 1 << 2, /* AVX-512 F, BW, DQ, VL and VNNI; the system saves zmm registers */
    EQ_CPU_AVX512VBMI = 1 << 3, /* vpermi2b */
};

uint32_t eq_cpu_features(void);

/* What the processor has and the system does not let programs use: it saves no registers for it. */
uint32_t eq_cpu_unsaved(void);

#endif
