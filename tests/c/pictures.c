/* SPDX-License-Identifier: Apache-2.0
 *
 * eq_preprocess_rgb: pictures PICTURE.eqm OTHER.eqm, the second without preprocessing. Compiled
 * together with the library, also with -DEQ_NO_PICTURES. */
#define _POSIX_C_SOURCE 200112L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgeq.h"

static int failures;

static void check(int ok, const char *what, int line)
{
    if (ok)
        return;
    failures++;
    fprintf(stderr, "line %d: %s\n  last error: %s\n", line, what, eq_last_error());
}
#define CHECK(x) check((x), #x, __LINE__)

static void check_error(eq_status got, eq_status expected, const char *words, int line)
{
    if (got == expected && strstr(eq_last_error(), words) != NULL)
        return;
    failures++;
    fprintf(stderr, "line %d: %s, expected %s with \"%s\"\n  last error: %s\n", line,
            eq_status_name(got), eq_status_name(expected), words, eq_last_error());
}
#define CHECK_ERROR(call, status, words) check_error((call), (status), (words), __LINE__)

static void test_info(const eq_model *model, const eq_model *other)
{
    eq_picture_info info;
    CHECK(eq_model_picture(model, 0, &info) == EQ_OK);
    CHECK(info.width == 3 && info.height == 2 && info.channels == 3 && !info.channels_first);
    CHECK(info.fit == EQ_CENTRE_CROP && info.order == EQ_BGR && info.crop == 57344);
    CHECK(eq_model_picture(model, 1, &info) == EQ_OK);
    CHECK(info.width == 2 && info.height == 2 && info.channels == 1 && info.channels_first);
    CHECK(info.fit == EQ_LETTERBOX && info.order == EQ_GRAY && info.crop == 65536);
    CHECK(info.pad[0] == 1 && info.pad[1] == 2 && info.pad[2] == 3);
    CHECK_ERROR(eq_model_picture(model, 2, &info), EQ_ERR_ARGUMENT, "for input 2");
    CHECK_ERROR(eq_model_picture(other, 0, &info), EQ_ERR_ARGUMENT, "no preprocessing");
    CHECK_ERROR(eq_model_picture(NULL, 0, &info), EQ_ERR_ARGUMENT, "NULL");
    CHECK_ERROR(eq_model_picture(model, 0, NULL), EQ_ERR_ARGUMENT, "NULL");
}

#ifdef EQ_NO_PICTURES

static void test_runs(const eq_model *model)
{
    const uint8_t rgb[3] = {0};
    eq_session *session;
    CHECK(eq_session_create(model, &session) == EQ_OK);
    CHECK_ERROR(eq_preprocess_rgb(session, 0, rgb, 1, 1, 0), EQ_ERR_UNSUPPORTED, "EQ_NO_PICTURES");
    eq_session_destroy(session);
}

#else

enum { WIDTH = 37, HEIGHT = 23, STRIDE = 128, GUARD = 64 };

/* In memory of exactly the size that was asked for, from a picture with gaps behind its rows. */
static void test_runs(const eq_model *model)
{
    static uint8_t dense[3 * WIDTH * HEIGHT], gaps[STRIDE * HEIGHT], again[64];
    size_t bytes, arena;
    void *memory = NULL;
    eq_session *session;

    CHECK(eq_session_size(model, &bytes, &arena, NULL) == EQ_OK);
    if (posix_memalign(&memory, 64, bytes + GUARD) != 0)
        exit(2);
    memset(memory, 0xA5, bytes + GUARD);
    CHECK(eq_session_create_in(model, memory, bytes, &session) == EQ_OK);
    memset(gaps, 0x77, sizeof gaps);
    for (size_t y = 0; y < HEIGHT; y++)
        for (size_t x = 0; x < 3 * WIDTH; x++)
            gaps[y * STRIDE + x] = dense[y * 3 * WIDTH + x] = (uint8_t)(x * 7 + y * y * 3);

    const size_t size[2] = {18, 8}; /* bytes of the inputs */
    for (uint32_t i = 0; i < 2; i++) {
        uint8_t *tensor = eq_session_input(session, i), *next = eq_session_input(session, 1 - i);
        memset(next, 0x33, size[1 - i]);
        CHECK(eq_preprocess_rgb(session, i, dense, WIDTH, HEIGHT, 0) == EQ_OK);
        memcpy(again, tensor, size[i]);
        memset(tensor, 0x55, size[i]);
        CHECK(eq_preprocess_rgb(session, i, gaps, WIDTH, HEIGHT, STRIDE) == EQ_OK);
        CHECK(memcmp(again, tensor, size[i]) == 0);
        for (size_t k = 0; k < size[1 - i]; k++) /* the other input is left alone */
            CHECK(next[k] == 0x33);
    }
    for (size_t k = 0; k < GUARD; k++)
        CHECK(((uint8_t *)memory)[bytes + k] == 0xA5);
    for (size_t i = 0; i < sizeof gaps; i++)
        CHECK(i % STRIDE < 3 * WIDTH || gaps[i] == 0x77);

    CHECK_ERROR(eq_preprocess_rgb(NULL, 0, dense, 1, 1, 0), EQ_ERR_ARGUMENT, "NULL");
    CHECK_ERROR(eq_preprocess_rgb(session, 0, NULL, 1, 1, 0), EQ_ERR_ARGUMENT, "NULL");
    CHECK_ERROR(eq_preprocess_rgb(session, 2, dense, 1, 1, 0), EQ_ERR_ARGUMENT, "no input 2");
    CHECK_ERROR(eq_preprocess_rgb(session, 0, dense, 0, 1, 0), EQ_ERR_ARGUMENT, "0 x 1 pixels");
    CHECK_ERROR(eq_preprocess_rgb(session, 0, dense, 1, 1u << 21, 0), EQ_ERR_ARGUMENT, "2^20");
    CHECK_ERROR(eq_preprocess_rgb(session, 0, dense, 4, 2, 11), EQ_ERR_ARGUMENT, "a stride of 11");
    CHECK_ERROR(eq_preprocess_rgb(session, 1, dense, 3000, 1, 0), EQ_ERR_ARGUMENT,
                "3000 x 1 pixels cannot be shrunk to 2 x 1");
    eq_session_destroy(session);
    free(memory);
}

#endif

int main(int argc, char **argv)
{
    eq_model *model, *other;
    if (argc != 3 || eq_model_open_file(argv[1], &model) || eq_model_open_file(argv[2], &other))
        return fprintf(stderr, "%s\n", eq_last_error()), 2;
    test_info(model, other);
    test_runs(model);
    eq_model_close(model);
    eq_model_close(other);
    if (failures == 0)
        puts("ok");
    return failures != 0;
}
