# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
"""The binding of src_c/include/edgeq.h and nothing more: no numpy, no policy, no messages.

Arrays come and go by the buffer protocol.
"""

import cython

from ..errors import EdgeqError, from_status

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release,
    PyObject_GetBuffer,
)
from libc.stdint cimport uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy


cdef str text(const char *string):
    return (<bytes> string).decode("utf-8", "replace")


cdef int check(eq_status status) except -1:
    if status != EQ_OK:
        raise from_status(status, text(eq_last_error()))
    return 0


def version():
    return text(eq_version())


# ---- arrays

cdef struct Port:
    eq_tensor_info info
    Py_buffer view # the array of the current run
    eq_dtype dtype # of that array


cdef eq_dtype dtype_of(const Py_buffer *view) noexcept nogil:
    """The dtype that a buffer's format and item size mean; 0: none of ours."""
    cdef char code = view.format[0] if view.format != NULL else b'B'
    if view.format != NULL and view.format[1] != 0:
        return 0
    if code in (b'b', b'h', b'i', b'l', b'q'):
        return (EQ_INT8 if view.itemsize == 1 else EQ_INT16 if view.itemsize == 2
                else EQ_INT32 if view.itemsize == 4 else EQ_INT64)
    return (EQ_UINT8 if code == b'B' else EQ_FLOAT32 if code == b'f'
            else EQ_BOOL if code == b'?' else 0)


cdef bint hold(Port *port, object array, int flags) except -1:
    """Takes the array's buffer into the port if shape and dtype are what C accepts, else not."""
    cdef uint32_t i
    try:
        PyObject_GetBuffer(array, &port.view, flags | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
    except (BufferError, TypeError, ValueError):
        return False
    port.dtype = dtype_of(&port.view)
    if <uint32_t> port.view.ndim == port.info.rank and (
        port.dtype == port.info.dtype or (port.dtype == EQ_FLOAT32 and port.info.scale != 0)
    ):
        for i in range(port.info.rank):
            if port.view.shape[i] != port.info.shape[i]:
                break
        else:
            return True
    PyBuffer_Release(&port.view)
    return False


cdef tuple describe(const eq_tensor_info *info):
    shape = tuple([info.shape[i] for i in range(info.rank)])
    return (text(info.name), text(eq_dtype_name(info.dtype)), shape, info.scale, info.zero_point,
            text(info.labels))


# ---- models

@cython.final
@cython.no_gc
cdef class Model:
    cdef eq_model *handle
    cdef Py_buffer view # of the caller's bytes where they are used in place
    cdef void *copy

    def __cinit__(self, data, bytes path):
        cdef const char *name
        cdef const void *start
        cdef size_t size
        cdef eq_status status
        if path is not None:
            name = path
            with nogil:
                status = eq_model_open_file(name, &self.handle)
        else:
            start = self.place(data, &size)
            with nogil:
                status = eq_model_open(start, size, &self.handle)
        check(status)

    cdef const void *place(self, object data, size_t *size) except NULL:
        """The bytes, aligned to 16 and read-only: in place where they are that, else copied."""
        cdef void *start
        PyObject_GetBuffer(data, &self.view, PyBUF_SIMPLE)
        size[0] = <size_t> self.view.len
        if self.view.readonly and <uintptr_t> self.view.buf % 16 == 0:
            return self.view.buf
        self.copy = malloc(size[0] + 16)
        if self.copy == NULL:
            raise MemoryError(f"{size[0]} bytes for a model")
        start = <void *> ((<uintptr_t> self.copy + 15) // 16 * 16)
        memcpy(start, self.view.buf, size[0])
        PyBuffer_Release(&self.view)
        return start

    def __dealloc__(self):
        eq_model_close(self.handle)
        PyBuffer_Release(&self.view) # nothing where nothing is held
        free(self.copy)

    def ports(self):
        cdef eq_tensor_info info
        inputs, outputs = [], []
        for i in range(eq_model_input_count(self.handle)):
            check(eq_model_input(self.handle, i, &info))
            inputs.append(describe(&info))
        for i in range(eq_model_output_count(self.handle)):
            check(eq_model_output(self.handle, i, &info))
            outputs.append(describe(&info))
        return inputs, outputs

    def ops(self):
        return [(text(eq_model_op_name(self.handle, i)), text(eq_model_op_type(self.handle, i)),
                 text(eq_model_op_kernel(self.handle, i)))
                for i in range(eq_model_op_count(self.handle))]

    def metadata(self, str key):
        cdef bytes name = key.encode()
        cdef const char *value = eq_model_metadata(self.handle, name)
        return None if value == NULL else text(value)

    def isa(self):
        return text(eq_model_isa(self.handle))

    def golden_count(self):
        return eq_model_golden_count(self.handle)

    def session_size(self):
        cdef size_t size, arena, scratch
        check(eq_session_size(self.handle, &size, &arena, &scratch))
        return size, arena, scratch


# ---- sessions

cdef struct Clock:
    uint64_t begin
    uint64_t *nanoseconds # one an op


cdef void tick(void *user, uint32_t op, int begin) noexcept nogil:
    cdef Clock *clock = <Clock *> user
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    cdef uint64_t ns = <uint64_t> now.tv_sec * 1000000000 + <uint64_t> now.tv_nsec
    if begin:
        clock.begin = ns
    else:
        clock.nanoseconds[op] = ns - clock.begin


@cython.final
@cython.no_gc
cdef class Session:
    cdef readonly Model model
    cdef eq_session *handle
    cdef Port *ports # inputs, then outputs
    cdef uint32_t input_count, output_count, op_count
    cdef Clock clock
    cdef bint busy

    def __cinit__(self, Model model not None):
        cdef uint32_t i
        self.model = model
        self.input_count = eq_model_input_count(model.handle)
        self.output_count = eq_model_output_count(model.handle)
        self.op_count = eq_model_op_count(model.handle)
        self.ports = <Port *> calloc(self.input_count + self.output_count + 1, sizeof(Port))
        self.clock.nanoseconds = <uint64_t *> calloc(self.op_count + 1, sizeof(uint64_t))
        if self.ports == NULL or self.clock.nanoseconds == NULL:
            raise MemoryError()
        for i in range(self.input_count):
            check(eq_model_input(model.handle, i, &self.ports[i].info))
        for i in range(self.output_count):
            check(eq_model_output(model.handle, i, &self.ports[self.input_count + i].info))
        check(eq_session_create(model.handle, &self.handle))

    def __dealloc__(self):
        eq_session_destroy(self.handle)
        free(self.ports)
        free(self.clock.nanoseconds)

    cdef int begin(self) except -1:
        if self.busy:
            raise EdgeqError("this session is running in another thread; make one session a thread")
        self.busy = True
        return 0

    cdef eq_status copy_and_run(self) noexcept nogil:
        cdef uint32_t i
        cdef Port *port = self.ports
        cdef eq_status status = EQ_OK
        for i in range(self.input_count):
            if status == EQ_OK:
                status = eq_set_input(self.handle, i, port.view.buf, port.dtype, port.view.len)
            port += 1
        if status == EQ_OK:
            status = eq_run(self.handle)
        for i in range(self.output_count):
            if status == EQ_OK:
                status = eq_get_output(self.handle, i, port.view.buf, port.dtype, port.view.len)
            port += 1
        return status

    def run(self, tuple inputs not None, list outputs not None):
        """True; or False, and nothing ran, if an array does not fit its tensor as it is."""
        cdef uint32_t held = 0, i
        cdef eq_status status
        if len(inputs) != self.input_count or len(outputs) != self.output_count:
            return False
        self.begin()
        try:
            for array in inputs:
                if not hold(&self.ports[held], array, 0):
                    return False
                held += 1
            for array in outputs:
                if not hold(&self.ports[held], array, PyBUF_WRITABLE):
                    return False
                held += 1
            with nogil:
                status = self.copy_and_run()
            check(status)
            return True
        finally:
            for i in range(held):
                PyBuffer_Release(&self.ports[i].view)
            self.busy = False

    def set_timing(self, bint on):
        """Whether the following runs fill nanoseconds()."""
        eq_session_set_hook(self.handle, <eq_op_hook> tick if on else NULL, &self.clock)

    def nanoseconds(self):
        """Of every op in the last timed run."""
        return [self.clock.nanoseconds[i] for i in range(self.op_count)]

    cdef bytes digest(self, bint stored, uint64_t number):
        cdef uint8_t sha256[32]
        cdef eq_status status
        self.begin()
        with nogil:
            if stored:
                status = eq_verify(self.handle, <uint32_t> number, sha256)
            else:
                status = eq_golden_digest(self.handle, number, sha256)
        self.busy = False
        check(status)
        return <bytes> sha256[:32]

    def verify(self, uint32_t index):
        return self.digest(True, index)

    def golden_digest(self, uint64_t seed):
        return self.digest(False, seed)
