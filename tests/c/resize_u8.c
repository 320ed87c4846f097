/* SPDX-License-Identifier: Apache-2.0
 *
 * resize_u8 [COUNT] [SEED]: RESIZE_BILINEAR_U8 against the binary32 arithmetic that it stands for,
 * on COUNT (default 20000) random operators of 8 x 8 output pixels with 8 channels. Compile this
 * file with -ffp-contract=off. Prints the number of outputs, and of pixels for which the fast path
 * may not have sufficed; exits with 1 at the first difference. */
#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/ops.h"

#if FLT_EVAL_METHOD != 0
#error "float expressions must be evaluated in binary32"
#endif

enum { SIZE = 3, OUT = 8, CHANNELS = 8 };

extern const eq_op_def eq_op_resize_bilinear_u8;

static uint64_t rng_state;
static uint64_t close_calls;
static eq_kernels scalar;

static uint64_t rng(void)
{
    uint64_t z = rng_state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static uint32_t below(uint32_t n)
{
    return (uint32_t)(rng() % n);
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Weights as resizing makes them: fractions of small denominators, dyadic or not, extrapolation
 * before the first sample; and any pair that the format allows. */
static eq_resize_tap random_tap(void)
{
    const uint32_t kind = below(8), denominator = 1 + below(kind == 0 ? 1000 : 16);
    const float exact = (float)below(1u << 10) / 1024.0f;
    float upper, lower;
    if (kind < 3)
        upper = (float)below(denominator) / (float)denominator;
    else if (kind == 3)
        upper = -0.5f * exact;
    else if (kind == 4)
        upper = (float)(below(1u << 24)) / 16777216.0f;
    else
        upper = exact * (below(2) ? 1.0f : 0.0625f);
    lower = 1.0f - upper;
    if (kind >= 6) { /* any sign and size */
        upper = of_bits(below(2) << 31 | (87 + below(40)) << 23 | below(1u << 23));
        lower = (2.0f - (upper < 0 ? -upper : upper)) * exact;
        lower = lower < 0x1p-30f ? 0 : below(2) ? -lower : lower;
        if (below(20) == 0) {
            lower = below(2) ? 2.0f : -2.0f;
            upper = below(2) ? 0.0f : -0.0f;
        }
    }
    return (eq_resize_tap){below(SIZE - 1) | below(2) << 31, bits_of(lower), bits_of(upper)};
}

static int expected(const int8_t *x, const eq_resize_tap *row, const eq_resize_tap *col,
                    size_t channel)
{
    const size_t y0 = row->lower & 0x7FFFFFFF, y1 = y0 + (row->lower >> 31);
    const size_t x0 = col->lower & 0x7FFFFFFF, x1 = x0 + (col->lower >> 31);
    const float r0 = of_bits(row->w_lower), r1 = of_bits(row->w_upper);
    const float c0 = of_bits(col->w_lower), c1 = of_bits(col->w_upper);
    const float a = (float)(x[(y0 * SIZE + x0) * CHANNELS + channel] + 128);
    const float b = (float)(x[(y1 * SIZE + x0) * CHANNELS + channel] + 128);
    const float c = (float)(x[(y0 * SIZE + x1) * CHANNELS + channel] + 128);
    const float d = (float)(x[(y1 * SIZE + x1) * CHANNELS + channel] + 128);
    const float s = a * r0 * c0 + b * r1 * c0 + c * r0 * c1 + d * r1 * c1 + 0.5f;
    return (s < 0 ? 0 : s >= 256 ? 255 : (int)s) - 128;
}

static int counting_bilinear_u8(size_t channels, const int8_t *const x[4], const int32_t w[4],
                                int8_t *y)
{
    const int is_close = scalar.bilinear_u8(channels, x, w, y);
    close_calls += (uint64_t)is_close;
    return is_close;
}

static void fill(int8_t *x, size_t n)
{
    const uint32_t kind = below(4);
    for (size_t i = 0; i < n; i++)
        x[i] = (int8_t)((int)(kind == 0 ? 255 : kind == 1 ? below(2) * 255 : below(256)) - 128);
}

int main(int argc, char **argv)
{
    static int8_t arena[SIZE * SIZE * CHANNELS + OUT * OUT * CHANNELS];
    static eq_resize_tap taps[2 * OUT];
    const long count = argc > 1 ? strtol(argv[1], NULL, 0) : 20000;
    const eq_resize_u8_params params = {0, OUT * sizeof(eq_resize_tap)};
    const eq_file_op op = {.opcode = 24, .input_count = 1, .output_count = 1};
    const eq_file_tensor tensors[2] = {
        {.dtype = EQ_DT_INT8, .rank = 4, .dims = {1, SIZE, SIZE, CHANNELS, 1, 1}},
        {.dtype = EQ_DT_INT8, .rank = 4, .storage = 1, .dims = {1, OUT, OUT, CHANNELS, 1, 1},
         .offset = SIZE * SIZE * CHANNELS},
    };
    const uint32_t args[2] = {0, 1};
    eq_kernels kernels;
    eq_kernels_fill_scalar(&scalar, 0);
    kernels = scalar;
    kernels.bilinear_u8 = counting_bilinear_u8;
    const eq_node node = {.op = &op, .params = &params, .tensors = tensors, .args = args,
                          .data = (const uint8_t *)taps, .data_size = sizeof taps,
                          .kernels = &kernels, .arena = (uint8_t *)arena, .name = "resize"};
    rng_state = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;

    for (long n = 0; n < count; n++) {
        for (size_t i = 0; i < 2 * OUT; i++)
            taps[i] = random_tap();
        fill(arena, SIZE * SIZE * CHANNELS);
        if (eq_op_resize_bilinear_u8.validate(&node) != EQ_OK) {
            printf("case %ld refused: %s\n", n, eq_last_error());
            return 1;
        }
        eq_op_resize_bilinear_u8.run_units(&node, 0, OUT);
        for (size_t i = 0; i < OUT * OUT * CHANNELS; i++) {
            const eq_resize_tap *row = &taps[i / (OUT * CHANNELS)];
            const eq_resize_tap *col = &taps[OUT + i / CHANNELS % OUT];
            const int want = expected(arena, row, col, i % CHANNELS);
            const int got = arena[SIZE * SIZE * CHANNELS + i];
            if (got != want) {
                printf("case %ld, output %zu: %d, expected %d\n", n, i, got, want);
                return 1;
            }
        }
    }
    printf("%lld outputs agree, %llu of %lld pixels were close calls\n",
           (long long)count * OUT * OUT * CHANNELS, (unsigned long long)close_calls,
           (long long)count * OUT * OUT);
    return 0;
}
