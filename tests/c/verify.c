/* SPDX-License-Identifier: Apache-2.0
 *
 * verify FILE...: opens each .eqm file and runs its golden cases, on machines without Python.
 * Prints the file, its golden cases and the instruction set; exits with 1 at the first that fails.
 */
#include <stdio.h>
#include <string.h>

#include "edgeq.h"

static int verify(const char *path)
{
    eq_model *model = NULL;
    eq_session *session = NULL;
    eq_status status = eq_model_open_file(path, &model);
    if (status == EQ_OK)
        status = eq_session_create(model, &session);
    const uint32_t count = status == EQ_OK ? eq_model_golden_count(model) : 0;
    for (uint32_t i = 0; i < count && status == EQ_OK; i++)
        status = eq_verify(session, i, NULL);
    if (status == EQ_OK)
        printf("%s: %lu golden cases, %s\n", path, (unsigned long)count, eq_model_isa(model));
    else
        printf("%s: %s\n", path, eq_last_error());
    eq_session_destroy(session);
    eq_model_close(model);
    return status == EQ_OK && count > 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (verify(argv[i]) != 0)
            return 1;
    return argc > 1 ? 0 : 2;
}
