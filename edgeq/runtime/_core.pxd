# SPDX-License-Identifier: Apache-2.0
"""What _core.pyx uses of src_c/include/edgeq.h, and a clock."""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

cdef extern from "edgeq.h" nogil:
    ctypedef struct eq_model
    ctypedef struct eq_session
    ctypedef int eq_status
    ctypedef int eq_dtype
    int EQ_OK
    eq_dtype EQ_INT8, EQ_UINT8, EQ_INT16, EQ_INT32, EQ_INT64, EQ_FLOAT32, EQ_BOOL
    ctypedef struct eq_tensor_info:
        const char *name
        eq_dtype dtype
        uint32_t rank
        int32_t shape[6]
        size_t bytes
        float scale
        int32_t zero_point
        const char *labels
    ctypedef struct eq_isa_info:
        const char *name
        const char *missing
    uint32_t eq_isa_count()
    eq_status eq_isa_get(uint32_t, eq_isa_info *)
    eq_status eq_isa_chosen(uint32_t *)
    uint64_t eq_isa_peak(uint32_t, uint32_t)
    const char *eq_version()
    const char *eq_last_error()
    const char *eq_dtype_name(eq_dtype)
    eq_status eq_model_open(const void *, size_t, eq_model **)
    eq_status eq_model_open_file(const char *, eq_model **)
    void eq_model_close(eq_model *)
    uint32_t eq_model_input_count(const eq_model *)
    uint32_t eq_model_output_count(const eq_model *)
    eq_status eq_model_input(const eq_model *, uint32_t, eq_tensor_info *)
    eq_status eq_model_output(const eq_model *, uint32_t, eq_tensor_info *)
    const char *eq_model_metadata(const eq_model *, const char *)
    uint32_t eq_model_op_count(const eq_model *)
    const char *eq_model_op_name(const eq_model *, uint32_t)
    const char *eq_model_op_type(const eq_model *, uint32_t)
    const char *eq_model_op_kernel(const eq_model *, uint32_t)
    const char *eq_model_op_slot(const eq_model *, uint32_t)
    const char *eq_model_op_why(const eq_model *, uint32_t)
    size_t eq_model_op_packed(const eq_model *, uint32_t)
    const char *eq_model_isa(const eq_model *)
    ctypedef struct eq_session_options:
        uint32_t threads
        const uint32_t *cpus
        uint32_t cpu_count
    eq_status eq_session_size_with(const eq_model *, const eq_session_options *, size_t *, size_t *,
                                   size_t *)
    eq_status eq_session_create_with(const eq_model *, const eq_session_options *, eq_session **)
    void eq_session_destroy(eq_session *)
    eq_status eq_run(eq_session *)
    ctypedef void (*eq_op_hook)(void *, uint32_t, int) noexcept
    void eq_session_set_hook(eq_session *, eq_op_hook, void *)
    eq_status eq_set_input(eq_session *, uint32_t, const void *, eq_dtype, size_t)
    eq_status eq_get_output(const eq_session *, uint32_t, void *, eq_dtype, size_t)
    ctypedef struct eq_picture_info:
        uint32_t width, height, channels
        int fit, order
        uint32_t crop
        uint8_t pad[3]
        int channels_first
    eq_status eq_model_picture(const eq_model *, uint32_t, eq_picture_info *)
    eq_status eq_preprocess_rgb(eq_session *, uint32_t, const uint8_t *, uint32_t, uint32_t,
                                size_t)
    uint32_t eq_model_golden_count(const eq_model *)
    eq_status eq_verify(eq_session *, uint32_t, uint8_t *)
    eq_status eq_golden_digest(eq_session *, uint64_t, uint8_t *)


cdef extern from "<time.h>" nogil:
    ctypedef struct timespec "struct timespec":
        long long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int, timespec *)
