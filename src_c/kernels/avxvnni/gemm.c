/* SPDX-License-Identifier: Apache-2.0
 *
 * Four products a lane by vpdpbusd: x + 128 as unsigned bytes, weights as signed ones. */
#include "kernels/avxvnni/avxvnni.h"

#if defined(__x86_64__)
#include "kernels/x86/ymm.h"

enum { STEP = 4, SLACK = 32, WEIGHT_BYTES = 32 };
typedef uint8_t value; /* x + 128 */

INLINE __m256i load_weights(const int8_t *w)
{
    return load_ymm(w);
}

INLINE __m256i broadcast(const uint8_t *panel)
{
    int32_t quad;
    memcpy(&quad, panel, sizeof quad);
    return _mm256_set1_epi32(quad);
}

INLINE __m256i dot(__m256i acc, __m256i u, __m256i s)
{
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(u), "x"(s));
    return acc;
}

INLINE void copy_values(size_t n, const int8_t *x, int32_t x_zero, uint8_t *out)
{
    const __m256i flip = _mm256_set1_epi8(-128);
    uint64_t eight;
    uint32_t four;
    (void)x_zero;
    for (; n >= 32; n -= 32, x += 32, out += 32)
        store_ymm(out, _mm256_xor_si256(load_ymm(x), flip));
    for (; n >= 8; n -= 8, x += 8, out += 8) {
        memcpy(&eight, x, sizeof eight);
        eight ^= UINT64_C(0x8080808080808080);
        memcpy(out, &eight, sizeof eight);
    }
    if (n >= 4) {
        memcpy(&four, x, sizeof four);
        four ^= UINT32_C(0x80808080);
        memcpy(out, &four, sizeof four);
        n -= 4, x += 4, out += 4;
    }
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)(x[i] + 128);
}

enum { SUMMED = 32 };
INLINE __m256i sum_vector(__m256i v)
{
    return _mm256_sad_epu8(v, _mm256_setzero_si256());
}

#include "kernels/x86/ymm_gemm.h"

void eq_kernels_fill_avxvnni_gemm(eq_kernels *kernels)
{
    kernels->gemm_pack = gemm_pack;
    kernels->gemm_scratch = gemm_scratch;
    kernels->gemm = gemm;
    kernels->conv_scratch = conv_scratch;
    kernels->conv = conv;
}
#endif
