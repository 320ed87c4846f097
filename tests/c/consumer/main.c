/* SPDX-License-Identifier: Apache-2.0 */
#include <edgeq.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    eq_model *model;
    eq_session *session;
    if (argc != 2 || eq_model_open_file(argv[1], &model) || eq_session_create(model, &session) ||
        eq_verify(session, 0, NULL)) {
        fprintf(stderr, "%s\n", eq_last_error());
        return 1;
    }
    puts(eq_version());
    eq_session_destroy(session);
    eq_model_close(model);
    return 0;
}
