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
} features[] = {
    {EQ_CPU_AVX2, "the processor has no AVX2 with FMA", "the system does not save ymm registers"},
    {EQ_CPU_AVXVNNI, "the processor has no AVX-VNNI", "the system does not save ymm registers"},
    {EQ_CPU_AVX512VNNI, "the processor has no AVX-512 F, BW, DQ, VL and VNNI",
     "the system does not save zmm registers"},
    {EQ_CPU_AVX512VBMI, "the processor has no AVX512-VBMI",
     "the system does not save zmm registers"},
};

static const char *why_not(uint32_t missing)
{
    const uint32_t unsaved = eq_cpu_unsaved();
    if (missing == 0)
        return "";
    for (size_t i = 0; i < sizeof features / sizeof features[0]; i++)
        if (missing & features[i].feature)
            return unsaved & features[i].feature ? features[i].unsaved : features[i].lacking;
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

EQ_API eq_status eq_isa_chosen(uint32_t *isa)
{
    if (isa == NULL)
        return eq_error(EQ_ERR_ARGUMENT, "isa is NULL");
    *isa = eq_isa_best(eq_cpu_features());
#ifndef EQ_NO_FILES
    const char *cap = getenv("EDGEQ_ISA");
    if (cap != NULL && cap[0] != 0) {
        uint32_t named = eq_isa_find(cap);
        if (named == EQ_ISA_COUNT)
            return eq_error(EQ_ERR_ARGUMENT, "EDGEQ_ISA is '%s'; this build has%s", cap,
                            eq_isa_names);
        while (eq_isa_needs(named) & ~eq_cpu_features())
            named--; /* 0 needs nothing */
        *isa = named < *isa ? named : *isa;
    }
#endif
    return EQ_OK;
}
