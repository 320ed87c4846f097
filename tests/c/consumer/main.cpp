// SPDX-License-Identifier: Apache-2.0
// The header in C++: no warnings, no name mangling.
#include <cstdio>
#include <edgeq.h>

int main()
{
    eq_model *model = nullptr;
    const eq_status status = eq_model_open_file("/no/such/file.eqm", &model);
    std::puts(eq_version());
    return status == EQ_ERR_IO && model == nullptr ? 0 : 1;
}
