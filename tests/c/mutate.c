/* SPDX-License-Identifier: Apache-2.0
 *
 * mutate FILE COUNT [SEED]: damages an .eqm file COUNT times, opens each mutant and runs what
 * opens. Half of the mutants get their checksums mended, so that the damage reaches the checks
 * behind them. A COUNT of 0 opens the file as it is. Built with sanitizers by tools/sanitize.sh;
 * exits with 1 if no mutant was refused, for then the test itself is broken. */
#define _POSIX_C_SOURCE 200112L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model.h"

static uint64_t rng_state;

static uint64_t rng(void)
{
    uint64_t z = rng_state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static size_t below(size_t n)
{
    return (size_t)(rng() % n);
}

/* Makes all checksums right again, as far as the tables are readable. */
static void mend(uint8_t *file, size_t size)
{
    eq_file_header h;
    if (size < sizeof h)
        return;
    memcpy(&h, file, sizeof h);
    const uint64_t end = sizeof h + (uint64_t)h.section_count * sizeof(eq_file_section);
    if (h.section_count > EQ_MAX_SECTIONS || end > size)
        return;
    h.file_size = size;
    for (uint32_t i = 0; i < h.section_count; i++) {
        eq_file_section s;
        uint8_t *at = file + sizeof h + i * sizeof s;
        memcpy(&s, at, sizeof s);
        if (s.offset <= size && s.size <= size - s.offset)
            s.crc = eq_crc32(file + s.offset, (size_t)s.size);
        memcpy(at, &s, sizeof s);
    }
    h.header_crc = 0;
    memcpy(file, &h, sizeof h);
    h.header_crc = eq_crc32(file, (size_t)end);
    memcpy(file, &h, sizeof h);
}

/* Damage lands mostly in the tables: the last section, the weights, gets one change in eight. */
static size_t damage(uint8_t *file, size_t size)
{
    static const uint32_t odd[] = {0,      1,       0x7F,       0x80,        0xFF,
                                   0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000u, 0xFFFFFFFFu};
    eq_file_header h;
    eq_file_section last;
    size_t tables = size;
    memcpy(&h, file, sizeof h);
    memcpy(&last, file + sizeof h + (h.section_count - 1) * sizeof last, sizeof last);
    if (last.offset > 0 && last.offset < size && below(8) != 0)
        tables = (size_t)last.offset;
    for (size_t n = 1 + below(3); n > 0; n--) {
        const size_t at = below(tables);
        switch (below(4)) {
        case 0: file[at] ^= (uint8_t)(1u << below(8)); break;
        case 1: file[at] = (uint8_t)rng(); break;
        case 2: {
            const uint32_t value = odd[below(sizeof odd / sizeof odd[0])];
            if ((at & ~(size_t)3) + 4 <= size)
                memcpy(file + (at & ~(size_t)3), &value, 4);
            break;
        }
        default: {
            uint32_t value;
            if ((at & ~(size_t)3) + 4 <= size) {
                memcpy(&value, file + (at & ~(size_t)3), 4);
                value += (uint32_t)below(9) - 4;
                memcpy(file + (at & ~(size_t)3), &value, 4);
            }
        }
        }
    }
    return below(10) == 0 ? below(size) : size;
}

static eq_status try_file(const uint8_t *file, size_t size)
{
    eq_model *model;
    eq_session *session;
    uint8_t digest[32];
    size_t bytes;
    eq_status status = eq_model_open(file, size, &model);
    if (status != EQ_OK) {
        if (eq_last_error()[0] == '\0')
            abort();
        return status;
    }
    status = eq_session_size(model, &bytes, NULL, NULL);
    if (status == EQ_OK && bytes < ((size_t)64 << 20)
        && eq_session_create(model, &session) == EQ_OK) {
        static const uint8_t rgb[7 * 32];
        for (uint32_t i = 0; i < eq_model_input_count(model); i++)
            (void)eq_preprocess_rgb(session, i, rgb, 10, 7, 32);
        status = eq_golden_digest(session, 1, digest);
        eq_session_destroy(session);
    }
    eq_model_close(model);
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return fprintf(stderr, "usage: mutate FILE COUNT [SEED]\n"), 2;
    const long count = atol(argv[2]);
    rng_state = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;

    FILE *f = fopen(argv[1], "rb");
    if (f == NULL || fseek(f, 0, SEEK_END) != 0)
        return perror(argv[1]), 2;
    const size_t size = (size_t)ftell(f);
    rewind(f);
    uint8_t *original = malloc(size ? size : 1);
    if (original == NULL || fread(original, 1, size, f) != size)
        return perror(argv[1]), 2;
    fclose(f);

    long results[EQ_ERR_VERIFY + 1] = {0};
    for (long i = 0; i < (count ? count : 1); i++) {
        /* An allocation of exactly the mutant's size, so that a read behind it is caught. */
        uint8_t *scratch = malloc(size ? size : 1);
        memcpy(scratch, original, size);
        const size_t cut = count ? damage(scratch, size) : size;
        if (i % 2)
            mend(scratch, cut);
        void *mutant = NULL;
        if (posix_memalign(&mutant, 16, cut ? cut : 1) != 0)
            return 2;
        memcpy(mutant, scratch, cut);
        free(scratch);
        results[try_file(mutant, cut)]++;
        free(mutant);
    }
    printf("%s: %ld mutants", argv[1], count);
    for (int s = 0; s <= EQ_ERR_VERIFY; s++)
        if (results[s])
            printf(", %ld %s", results[s], eq_status_name((eq_status)s));
    printf("\n");
    free(original);
    return count && results[EQ_ERR_FORMAT] + results[EQ_ERR_INVALID] == 0;
}
