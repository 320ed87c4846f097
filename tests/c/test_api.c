/* SPDX-License-Identifier: Apache-2.0
 *
 * The C API: test_api DIGITS.eqm WRONG.eqm, the second with golden cases that do not hold.
 * Compiled together with the library, whose allocations come here:
 * -Dmalloc=counted_malloc -Dposix_memalign=counted_memalign. Also with -DEQ_NO_FLOAT. */
#define _GNU_SOURCE
#undef malloc
#undef posix_memalign
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgeq.h"

static int failures, allocations, fail_at;

void *counted_malloc(size_t bytes);
int counted_memalign(void **memory, size_t alignment, size_t bytes);

void *counted_malloc(size_t bytes)
{
    return ++allocations == fail_at ? NULL : malloc(bytes);
}

int counted_memalign(void **memory, size_t alignment, size_t bytes)
{
    return ++allocations == fail_at ? 12 : posix_memalign(memory, alignment, bytes);
}

static void check(int ok, const char *what, int line)
{
    if (ok)
        return;
    failures++;
    fprintf(stderr, "line %d: %s\n  last error: %s\n", line, what, eq_last_error());
}
#define CHECK(x) check((x), #x, __LINE__)

/* The call gives the status, and a sentence that holds the words. */
static void check_error(eq_status got, eq_status expected, const char *words, int line)
{
    if (got != expected || strstr(eq_last_error(), words) == NULL) {
        failures++;
        fprintf(stderr, "line %d: %s, expected %s with \"%s\"\n  last error: %s\n", line,
                eq_status_name(got), eq_status_name(expected), words, eq_last_error());
    }
}
#define CHECK_ERROR(call, status, words) check_error((call), (status), (words), __LINE__)

static const char *digits_path, *wrong_path;
static unsigned char *file; /* the digits network, aligned to 64 */
static size_t file_size;

static unsigned char *aligned(size_t bytes)
{
    void *memory = NULL;
    if (posix_memalign(&memory, 64, bytes + 64) != 0)
        exit(2);
    memset(memory, 0xA5, bytes + 64);
    return memory;
}

static void read_file(void)
{
    FILE *f = fopen(digits_path, "rb");
    if (f == NULL)
        exit(2);
    fseek(f, 0, SEEK_END);
    file_size = (size_t)ftell(f);
    rewind(f);
    file = aligned(file_size);
    if (fread(file, 1, file_size, f) != file_size)
        exit(2);
    fclose(f);
}

static void test_names(void)
{
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", EQ_VERSION_MAJOR, EQ_VERSION_MINOR,
             EQ_VERSION_PATCH);
    CHECK(strcmp(eq_version(), version) == 0);
    CHECK(eq_last_error() != NULL);
    for (int s = EQ_OK; s <= EQ_ERR_VERIFY; s++)
        for (int t = s + 1; t <= EQ_ERR_VERIFY; t++)
            CHECK(strcmp(eq_status_name((eq_status)s), eq_status_name((eq_status)t)) != 0);
    CHECK(eq_status_name((eq_status)99) != NULL);
    CHECK(strcmp(eq_dtype_name(EQ_INT8), "int8") == 0);
    CHECK(strcmp(eq_dtype_name(EQ_FLOAT32), "float32") == 0);
    CHECK(strcmp(eq_dtype_name(EQ_BOOL), "bool") == 0);
    CHECK(eq_dtype_name((eq_dtype)99) != NULL);
}

static void test_isas(void)
{
    const uint32_t count = eq_isa_count();
    eq_isa_info info;
    uint32_t chosen, isa;
    unsetenv("EDGEQ_ISA");
    CHECK(count > 0);
    CHECK(eq_isa_get(0, &info) == EQ_OK);
    CHECK(strcmp(info.name, "scalar") == 0);
    CHECK(strcmp(info.missing, "") == 0);
    CHECK_ERROR(eq_isa_get(count, &info), EQ_ERR_ARGUMENT, "no instruction set");
    CHECK_ERROR(eq_isa_get(0, NULL), EQ_ERR_ARGUMENT, "no instruction set");
    CHECK_ERROR(eq_isa_chosen(NULL), EQ_ERR_ARGUMENT, "NULL");
    CHECK(eq_isa_chosen(&chosen) == EQ_OK);
    for (isa = 0; isa < count; isa++) {
        uint32_t capped = count;
        CHECK(eq_isa_get(isa, &info) == EQ_OK);
        CHECK((strcmp(info.missing, "") == 0) || isa != chosen);
        CHECK((strcmp(info.missing, "") != 0) || isa <= chosen);
        setenv("EDGEQ_ISA", info.name, 1);
        CHECK(eq_isa_chosen(&capped) == EQ_OK);
        CHECK(strcmp(info.missing, "") == 0 ? capped == isa : capped < isa);
    }
    setenv("EDGEQ_ISA", "mmx", 1);
    CHECK_ERROR(eq_isa_chosen(&isa), EQ_ERR_ARGUMENT, "EDGEQ_ISA is 'mmx'; this build has scalar");
    setenv("EDGEQ_ISA", "", 1);
    CHECK(eq_isa_chosen(&isa) == EQ_OK);
    CHECK(isa == chosen);
    unsetenv("EDGEQ_ISA");
    CHECK(eq_isa_peak(count, 1) == 0);
    CHECK(eq_isa_peak(chosen, 3) == 3 * eq_isa_peak(chosen, 1));
}

static void test_open(void)
{
    eq_model *model;
    CHECK_ERROR(eq_model_open_file("/no/such/file.eqm", &model), EQ_ERR_IO, "/no/such/file.eqm");
    CHECK(model == NULL);
    CHECK_ERROR(eq_model_open_file("/", &model), EQ_ERR_IO, "/");
    CHECK_ERROR(eq_model_open_file(NULL, &model), EQ_ERR_ARGUMENT, "NULL");
    CHECK_ERROR(eq_model_open_file(digits_path, NULL), EQ_ERR_ARGUMENT, "NULL");
    CHECK_ERROR(eq_model_open(NULL, file_size, &model), EQ_ERR_ARGUMENT, "NULL");
    CHECK_ERROR(eq_model_open(file, file_size, NULL), EQ_ERR_ARGUMENT, "NULL");
    CHECK(eq_model_open(file + 8, file_size - 8, &model) != EQ_OK); /* misaligned, and no file */
    eq_model_close(NULL);

    CHECK(eq_model_open(file, file_size, &model) == EQ_OK);
    CHECK(eq_model_input_count(model) == 1);
    CHECK(eq_model_output_count(model) == 1);
    CHECK(eq_model_op_count(model) == 11);
    CHECK(strcmp(eq_model_op_type(model, 0), "CONV_2D") == 0);
    CHECK(strlen(eq_model_op_name(model, 0)) > 0);
    CHECK(strlen(eq_model_op_kernel(model, 0)) > 0);
    CHECK(strcmp(eq_model_op_slot(model, 0), "conv") == 0);
    CHECK(strstr(eq_model_op_why(model, 0), "windows of input rows") != NULL);
    CHECK(eq_model_op_packed(model, 0) % 64 == 0);
    CHECK(strcmp(eq_model_op_type(model, 11), "") == 0);
    CHECK(strcmp(eq_model_op_slot(model, 11), "") == 0);
    CHECK(strcmp(eq_model_op_why(model, 11), "") == 0);
    CHECK(eq_model_op_packed(model, 11) == 0);
    CHECK(strlen(eq_model_isa(model)) > 0);
    CHECK(strcmp(eq_model_metadata(model, "source_format"), "tflite") == 0);
    CHECK(eq_model_metadata(model, "nothing") == NULL);
    CHECK(eq_model_golden_count(model) == 3);
    eq_model_close(model);

    CHECK(eq_model_open_file(digits_path, &model) == EQ_OK);
    CHECK(eq_model_op_count(model) == 11);
    eq_model_close(model);
}

static void test_ports(const eq_model *model)
{
    eq_tensor_info info;
    CHECK(eq_model_input(model, 0, &info) == EQ_OK);
    CHECK(strcmp(info.name, "image") == 0);
    CHECK(info.dtype == EQ_INT8 && info.storage == EQ_INT8);
    CHECK(info.rank == 4 && info.shape[0] == 1 && info.shape[1] == 8 && info.shape[2] == 8
          && info.shape[3] == 1);
    CHECK(info.bytes == 64);
    CHECK(info.zero_point == -128 && info.storage_zero_point == -128);
    CHECK(info.scale > 0.0039f && info.scale < 0.00393f);
    CHECK(strcmp(info.labels, "") == 0);
    CHECK(eq_model_output(model, 0, &info) == EQ_OK);
    CHECK(info.rank == 2 && info.shape[1] == 10 && info.bytes == 10);
    CHECK_ERROR(eq_model_input(model, 1, &info), EQ_ERR_ARGUMENT, "1");
    CHECK_ERROR(eq_model_output(model, 1, &info), EQ_ERR_ARGUMENT, "1");
    CHECK_ERROR(eq_model_input(model, 0, NULL), EQ_ERR_ARGUMENT, "");
}

/* Whether byte `at` belongs to the header, the section table or a section, not to padding. */
static int is_content(size_t at)
{
    uint32_t count;
    memcpy(&count, file + 12, 4);
    if (at < 64 + 32 * (size_t)count)
        return 1;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t place[2]; /* offset and size */
        memcpy(place, file + 64 + 32 * (size_t)i + 8, 16);
        if (at >= place[0] && at - place[0] < place[1])
            return 1;
    }
    return 0;
}

/* Every cut and every changed byte of the header and section table, and some of the rest. */
static void test_damage(void)
{
    unsigned char *copy = aligned(file_size);
    eq_model *model;
    for (size_t size = 0; size < file_size; size += size < 4096 ? 1 : 997) {
        memcpy(copy, file, size);
        CHECK(eq_model_open(copy, size, &model) != EQ_OK && model == NULL);
    }
    memcpy(copy, file, file_size);
    for (size_t at = 0; at < file_size; at += at < 4096 ? 1 : 97) {
        copy[at] ^= 0x40;
        CHECK(eq_model_open(copy, file_size, &model) != EQ_OK || !is_content(at));
        eq_model_close(model);
        copy[at] ^= 0x40;
    }
    CHECK(eq_model_open(copy, file_size, &model) == EQ_OK);
    eq_model_close(model);
    free(copy);
}

static void fill(signed char *pixels, int seed)
{
    for (int i = 0; i < 64; i++)
        pixels[i] = (signed char)((i * 37 + seed * 11) % 256 - 128);
}

static void test_copies(eq_session *session)
{
    signed char pixels[64], scores[10];
    fill(pixels, 1);
    CHECK_ERROR(eq_set_input(session, 1, pixels, EQ_INT8, 64), EQ_ERR_ARGUMENT, "1");
    CHECK_ERROR(eq_set_input(session, 0, pixels, EQ_UINT8, 64), EQ_ERR_ARGUMENT, "uint8");
    CHECK_ERROR(eq_set_input(session, 0, pixels, EQ_INT8, 63), EQ_ERR_ARGUMENT, "63");
    CHECK_ERROR(eq_set_input(session, 0, NULL, EQ_INT8, 64), EQ_ERR_ARGUMENT, "NULL");
    CHECK_ERROR(eq_set_input(NULL, 0, pixels, EQ_INT8, 64), EQ_ERR_ARGUMENT, "NULL");
    CHECK_ERROR(eq_get_output(session, 1, scores, EQ_INT8, 10), EQ_ERR_ARGUMENT, "1");
    CHECK_ERROR(eq_get_output(session, 0, scores, EQ_INT8, 11), EQ_ERR_ARGUMENT, "11");
    CHECK_ERROR(eq_get_output(session, 0, scores, EQ_INT32, 40), EQ_ERR_ARGUMENT, "int32");
    CHECK_ERROR(eq_run(NULL), EQ_ERR_ARGUMENT, "NULL");
    CHECK(eq_session_input(session, 1) == NULL);
    CHECK(eq_session_output(session, 1) == NULL);
    CHECK((uintptr_t)eq_session_input(session, 0) % 16 == 0);

    /* The tensor in place and the copying functions are the same. */
    CHECK(eq_set_input(session, 0, pixels, EQ_INT8, 64) == EQ_OK);
    CHECK(memcmp(eq_session_input(session, 0), pixels, 64) == 0);
    const int before = allocations;
    CHECK(eq_run(session) == EQ_OK);
    CHECK(eq_get_output(session, 0, scores, EQ_INT8, 10) == EQ_OK);
    CHECK(memcmp(eq_session_output(session, 0), scores, 10) == 0);
    CHECK(allocations == before);
}

static void test_floats(eq_session *session)
{
    float pixels[64], scores[10];
    for (int i = 0; i < 64; i++)
        pixels[i] = (float)i / 63.0f;
#ifdef EQ_NO_FLOAT
    CHECK_ERROR(eq_set_input(session, 0, pixels, EQ_FLOAT32, sizeof pixels), EQ_ERR_UNSUPPORTED,
                "EQ_NO_FLOAT");
    CHECK_ERROR(eq_get_output(session, 0, scores, EQ_FLOAT32, sizeof scores), EQ_ERR_UNSUPPORTED,
                "EQ_NO_FLOAT");
#else
    float sum = 0;
    CHECK(eq_set_input(session, 0, pixels, EQ_FLOAT32, sizeof pixels) == EQ_OK);
    for (int i = 0; i < 64; i++)
        CHECK(((signed char *)eq_session_input(session, 0))[i] == (i * 510 + 63) / 126 - 128);
    CHECK(eq_run(session) == EQ_OK);
    CHECK(eq_get_output(session, 0, scores, EQ_FLOAT32, sizeof scores) == EQ_OK);
    for (int i = 0; i < 10; i++)
        sum += scores[i];
    CHECK(sum > 0.97f && sum < 1.03f);
    CHECK_ERROR(eq_set_input(session, 0, pixels, EQ_FLOAT32, 64), EQ_ERR_ARGUMENT, "64");
#endif
}

/* Model and session in memory of the caller, of exactly the size that was asked for. */
static void test_own_memory(void)
{
    size_t model_bytes, bytes, arena, scratch;
    eq_model *model, *other;
    eq_session *session, *reference;
    signed char pixels[64];
    const int before = allocations;

    CHECK(eq_model_size(file, file_size, &model_bytes) == EQ_OK);
    CHECK_ERROR(eq_model_size(file, file_size, NULL), EQ_ERR_ARGUMENT, "NULL");
    CHECK(eq_model_size(file, 100, &bytes) == EQ_ERR_FORMAT);
    unsigned char *place = aligned(model_bytes);
    CHECK_ERROR(eq_model_open_in(place, model_bytes - 1, file, file_size, &model), EQ_ERR_MEMORY,
                "it needs");
    CHECK_ERROR(eq_model_open_in(place + 8, model_bytes, file, file_size, &model), EQ_ERR_MEMORY,
                "aligned");
    CHECK_ERROR(eq_model_open_in(NULL, model_bytes, file, file_size, &model), EQ_ERR_MEMORY,
                "NULL");
    CHECK(eq_model_open_in(place, model_bytes, file, file_size, &model) == EQ_OK);
    CHECK(place[model_bytes] == 0xA5);

    CHECK(eq_session_size(model, &bytes, &arena, &scratch) == EQ_OK);
    CHECK(eq_session_size(model, &bytes, NULL, NULL) == EQ_OK);
    CHECK(arena > 0 && arena + scratch < bytes);
    CHECK_ERROR(eq_session_size(model, NULL, NULL, NULL), EQ_ERR_ARGUMENT, "NULL");
    unsigned char *room = aligned(bytes);
    CHECK_ERROR(eq_session_create_in(model, room, bytes - 1, &session), EQ_ERR_MEMORY, "it needs");
    CHECK(session == NULL);
    CHECK_ERROR(eq_session_create_in(model, room + 8, bytes, &session), EQ_ERR_MEMORY, "aligned");
    CHECK_ERROR(eq_session_create_in(model, NULL, bytes, &session), EQ_ERR_MEMORY, "NULL");
    CHECK_ERROR(eq_session_create_in(model, room, bytes, NULL), EQ_ERR_ARGUMENT, "NULL");
    CHECK(eq_session_create_in(model, room, bytes, &session) == EQ_OK);
    CHECK(allocations == before);

    CHECK(eq_model_open(file, file_size, &other) == EQ_OK);
    CHECK(eq_session_create(other, &reference) == EQ_OK);
    for (int seed = 0; seed < 10; seed++) {
        fill(pixels, seed);
        CHECK(eq_set_input(session, 0, pixels, EQ_INT8, 64) == EQ_OK && eq_run(session) == EQ_OK);
        CHECK(eq_set_input(reference, 0, pixels, EQ_INT8, 64) == EQ_OK
              && eq_run(reference) == EQ_OK);
        CHECK(memcmp(eq_session_output(session, 0), eq_session_output(reference, 0), 10) == 0);
    }
    for (int i = 0; i < 64; i++)
        CHECK(room[bytes + (size_t)i] == 0xA5);
    eq_session_destroy(reference);
    eq_model_close(other);
    eq_session_destroy(session); /* releases nothing */
    eq_model_close(model);
    free(room);
    free(place);
}

typedef struct calls {
    uint32_t next, begun, ended, wrong;
} calls;

static void count_call(void *user, uint32_t op, int begin)
{
    calls *c = user;
    if (begin) {
        c->wrong += op != c->next;
        c->begun++;
    } else {
        c->wrong += op != c->next++;
        c->ended++;
    }
}

static void test_hook(const eq_model *model, eq_session *session)
{
    calls c = {0, 0, 0, 0};
    eq_session_set_hook(session, count_call, &c);
    CHECK(eq_run(session) == EQ_OK);
    CHECK(c.begun == eq_model_op_count(model) && c.ended == c.begun && c.wrong == 0);
    eq_session_set_hook(session, NULL, NULL);
    CHECK(eq_run(session) == EQ_OK);
    CHECK(c.begun == eq_model_op_count(model));
}

static void test_golden(const eq_model *model, eq_session *session)
{
    uint8_t stored[32], again[32];
    for (uint32_t i = 0; i < eq_model_golden_count(model); i++) {
        CHECK(eq_verify(session, i, stored) == EQ_OK);
        CHECK(eq_golden_digest(session, i + 1, again) == EQ_OK); /* the seeds are 1, 2, 3 */
        CHECK(memcmp(stored, again, 32) == 0);
    }
    CHECK(eq_verify(session, 0, NULL) == EQ_OK);
    CHECK_ERROR(eq_verify(session, 3, NULL), EQ_ERR_ARGUMENT, "3");
    CHECK_ERROR(eq_golden_digest(session, 1, NULL), EQ_ERR_ARGUMENT, "NULL");

    eq_model *wrong;
    eq_session *runs;
    CHECK(eq_model_open_file(wrong_path, &wrong) == EQ_OK);
    CHECK(eq_session_create(wrong, &runs) == EQ_OK);
    CHECK_ERROR(eq_verify(runs, 0, stored), EQ_ERR_VERIFY, "golden case 0");
    eq_session_destroy(runs);
    eq_model_close(wrong);
}

/* Fails the first, then the second allocation, and so on until all goes well. */
static void test_allocations_that_fail(void)
{
    int n = 0;
    eq_status status = EQ_ERR_MEMORY;
    while (status != EQ_OK && n < 20) {
        eq_model *model = NULL;
        eq_session *session = NULL;
        allocations = 0;
        fail_at = ++n;
        status = eq_model_open_file(digits_path, &model);
        if (status == EQ_OK)
            status = eq_session_create(model, &session);
        CHECK(status == EQ_OK || status == EQ_ERR_MEMORY);
        eq_session_destroy(session);
        eq_model_close(model);
    }
    fail_at = 0;
    CHECK(n == 3); /* one for the model, one for the session */
}

static void *fail_elsewhere(void *unused)
{
    eq_model *model;
    (void)unused;
    CHECK(strcmp(eq_last_error(), "") == 0);
    CHECK_ERROR(eq_model_open(file, 3, &model), EQ_ERR_FORMAT, "");
    return NULL;
}

static void test_errors_belong_to_a_thread(void)
{
    char before[512];
    eq_model *model;
    pthread_t thread;
    CHECK_ERROR(eq_model_open_file("/mine.eqm", &model), EQ_ERR_IO, "/mine.eqm");
    snprintf(before, sizeof before, "%s", eq_last_error());
    if (pthread_create(&thread, NULL, fail_elsewhere, NULL) == 0)
        pthread_join(thread, NULL);
    CHECK(strcmp(before, eq_last_error()) == 0);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    digits_path = argv[1];
    wrong_path = argv[2];
    read_file();
    test_names();
    test_isas();
    test_open();
    test_damage();
    test_own_memory();
    test_allocations_that_fail();
    test_errors_belong_to_a_thread();

    eq_model *model;
    eq_session *session;
    CHECK(eq_model_open_file(digits_path, &model) == EQ_OK);
    CHECK_ERROR(eq_session_create(model, NULL), EQ_ERR_ARGUMENT, "NULL");
    CHECK_ERROR(eq_session_create(NULL, &session), EQ_ERR_ARGUMENT, "NULL");
    CHECK(eq_session_create(model, &session) == EQ_OK);
    test_ports(model);
    test_copies(session);
    test_floats(session);
    test_hook(model, session);
    test_golden(model, session);
    eq_session_destroy(session);
    eq_session_destroy(NULL);
    eq_model_close(model);
    free(file);
    if (failures == 0)
        puts("ok");
    return failures != 0;
}
