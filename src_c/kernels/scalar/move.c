/* SPDX-License-Identifier: Apache-2.0
 *
 * Resizing and transposing. */
#include "core/numerics.h"
#include "kernels/scalar/scalar.h"

#define TILE 32 /* both tiles of a transposition stay in the first-level cache */

void eq_bilinear_scalar(size_t channels, const int8_t *const x[4], const int32_t w[4], int8_t *y)
{
    const int8_t *const a = x[0], *const b = x[1], *const c = x[2], *const d = x[3];
    const int32_t wa = w[0], wb = w[1], wc = w[2], wd = w[3];
    for (size_t i = 0; i < channels; i++) {
        const int32_t s = a[i] * wa + b[i] * wb + c[i] * wc + d[i] * wd;
        /* Half away from zero: the shift floors, so a negative half needs to stay below it. */
        y[i] = (int8_t)((s + (1 << 19) - (s < 0)) >> 20);
    }
}

int eq_bilinear_u8_scalar(size_t channels, const int8_t *const x[4], const int32_t w[4], int8_t *y)
{
    const int8_t *const a = x[0], *const b = x[1], *const c = x[2], *const d = x[3];
    const int32_t wa = w[0], wb = w[1], wc = w[2], wd = w[3];
    const int32_t base = (1 << 19) + 128 * (wa + wb + wc + wd);
    uint32_t near = 0;
    for (size_t i = 0; i < channels; i++) {
        const int32_t v = base + a[i] * wa + b[i] * wb + c[i] * wc + d[i] * wd;
        near |= (((uint32_t)v + 1024u) & 0xFFFFFu) < 2048u;
        y[i] = (int8_t)(eq_clamp(v >> 20, 0, 255) - 128);
    }
    return (int)near;
}

void eq_transpose_scalar(size_t rows, size_t cols, const int8_t *x, size_t x_stride, int8_t *y,
                         size_t y_stride)
{
    for (size_t r0 = 0; r0 < rows; r0 += TILE) {
        const size_t r1 = rows - r0 < TILE ? rows : r0 + TILE;
        for (size_t c0 = 0; c0 < cols; c0 += TILE) {
            const size_t c1 = cols - c0 < TILE ? cols : c0 + TILE;
            for (size_t c = c0; c < c1; c++)
                for (size_t r = r0; r < r1; r++)
                    y[c * y_stride + r] = x[r * x_stride + c];
        }
    }
}
