/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "core/cpu.h"
#include "kernels/kernels.h"

static const struct {
    const char *name;
    uint32_t features, speed;
    void (*fill)(eq_kernels *kernels, uint32_t features);
} isas[EQ_ISA_COUNT] = {
#define EQ_ISA(name, needed, speed) {#name, needed, speed, eq_kernels_fill_##name},
#include "kernels/isa.def"
#undef EQ_ISA
};

const char eq_isa_names[] =
#define EQ_ISA(name, needed, speed) " " #name
#include "kernels/isa.def"
#undef EQ_ISA
    ;

const char *eq_isa_name(uint32_t isa)
{
    return isa < EQ_ISA_COUNT ? isas[isa].name : NULL;
}

uint32_t eq_isa_speed(uint32_t isa)
{
    return isas[isa].speed;
}

uint32_t eq_isa_needs(uint32_t isa)
{
    return isas[isa].features;
}

uint32_t eq_isa_find(const char *name)
{
    uint32_t isa = 0;
    while (isa < EQ_ISA_COUNT && strcmp(isas[isa].name, name) != 0)
        isa++;
    return isa;
}

static bool has(uint32_t isa, uint32_t features)
{
    return (isas[isa].features & ~features) == 0;
}

uint32_t eq_isa_best(uint32_t features)
{
    uint32_t isa = EQ_ISA_COUNT - 1;
    while (!has(isa, features))
        isa--;
    return isa;
}

void eq_kernels_select(eq_kernel_table *table, uint32_t isa, uint32_t features)
{
    typedef void (*slot)(void);
    slot before[EQ_SLOTS], after[EQ_SLOTS];

    memset(table, 0, sizeof *table);
    for (uint32_t i = 0; i <= isa; i++) {
        if (!has(i, features))
            continue;
        memcpy(before, &table->slots, sizeof before);
        isas[i].fill(&table->slots, features);
        memcpy(after, &table->slots, sizeof after);
        for (size_t s = 0; s < EQ_SLOTS; s++)
            if (before[s] != after[s])
                table->isa_of[s] = (uint8_t)i;
        table->isa = (uint8_t)i;
    }
}
