/* SPDX-License-Identifier: Apache-2.0
 *
 * Which instruction sets this build has kernels for, and which of them this machine runs. */
#include "core/cpu.h"
#include "core/model.h"

#ifndef EQ_NO_FILES
#include <stdlib.h>
#endif

/* Why a feature of core/cpu.h cannot be used. */
static const struct {
    uint32_t feature;
    const char *lacking, *unsaved;
} reasons[] = {
    {EQ_CPU_AVX2, "the processor has no AVX2 with FMA", "the system does not save ymm registers"},
    {EQ_CPU_AVXVNNI, "the processor has no AVX-VNNI", "the system does not save ymm registers"},
    {EQ_CPU_AVX512VNNI, "the processor has no AVX-512 F, BW, DQ, VL and VNNI",
     "the system does not save zmm registers"},
    {EQ_CPU_AVX512VBMI, "the processor has no AVX512-VBMI",
     "the system does not save zmm registers"},
};

static const char *why_not(uint32_t missing)
{
    if (missing == 0)
        return "";
    const uint32_t unsaved = eq_cpu_unsaved();
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (missing & reasons[i].feature)
            return unsaved & reasons[i].feature ? reasons[i].unsaved : reasons[i].lacking;
    return "the processor lacks what it needs";
}

EQ_API uint32_t eq_isa_count(void)
{
    return EQ_ISA_COUNT;
}

EQ_API eq_status eq_isa_get(uint32_t isa, eq_isa_info *info)
{
    if (info == NULL || isa >= EQ_ISA_COUNT)
        return eq_error(EQ_ERR_ARGUMENT, "no instruction set %u", isa);
    info->name = eq_isa_name(isa);
    info->missing = why_not(eq_isa_needs(isa) & ~eq_cpu_features());
    return EQ_OK;
}

eq_status eq_isa_choose(uint32_t *isa, uint32_t *features)
{
    *features = eq_cpu_features();
    *isa = eq_isa_best(*features);
#ifndef EQ_NO_FILES
    const char *cap = getenv("EDGEQ_ISA");
    if (cap != NULL && cap[0] != 0) {
        uint32_t named = eq_isa_find(cap);
        if (named == EQ_ISA_COUNT)
            return eq_error(EQ_ERR_ARGUMENT, "EDGEQ_ISA is '%s'; this build has%s", cap,
                            eq_isa_names);
        while (eq_isa_needs(named) & ~*features)
            named--; /* 0 needs nothing */
        *isa = named < *isa ? named : *isa;
    }
#endif
    return EQ_OK;
}

EQ_API eq_status eq_isa_chosen(uint32_t *isa)
{
    uint32_t features;
    if (isa == NULL)
        return eq_error(EQ_ERR_ARGUMENT, "isa is NULL");
    return eq_isa_choose(isa, &features);
}

EQ_API uint64_t eq_isa_peak(uint32_t isa, uint32_t turns)
{
    if (isa >= EQ_ISA_COUNT || eq_isa_needs(isa) & ~eq_cpu_features())
        return 0;
    return eq_kernels_peak(isa, turns);
}
