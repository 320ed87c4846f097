# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
"""The binding of src_c/include/edgeq.h and nothing more: no numpy, no policy, no messages.

Arrays come and go by the buffer protocol.
"""

import cython

from ..errors import EdgeqError, from_status

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_SIMPLE, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.object cimport PyObject_CallObject
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


include "_machine.pxi"



cdef tuple describe(const eq_tensor_info *info):
    shape = tuple([info.shape[i] for i in range(info.rank)])
    return (text(info.name), text(eq_dtype_name(info.dtype)), shape, info.scale, info.zero_point,
            text(info.labels))


include "_arrays.pxi"
include "_model.pxi"


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


@cython.no_gc
cdef class Session:
    """The base of edgeq.Session: run() is one call, without a frame of Python for the usual case.

    What needs names or messages goes to the `_run_checked` of session.py.
    """

    cdef Model model_core
    cdef eq_session *handle
    cdef eq_session_options options
    cdef uint32_t *cpus # of the options
    cdef Port *ports # inputs, then outputs
    cdef uint32_t input_count, output_count, op_count
    cdef Clock clock
    cdef bint busy
    cdef object new_array # makes outputs
    cdef tuple layouts, float_layouts # its arguments for each of them

    def __cinit__(self, model, uint32_t threads=1, tuple cpus not None=()):
        cdef uint32_t i
        cdef Model core = model.core
        self.model_core = core
        self.input_count = eq_model_input_count(core.handle)
        self.output_count = eq_model_output_count(core.handle)
        self.op_count = eq_model_op_count(core.handle)
        self.ports = <Port *> calloc(self.input_count + self.output_count + 1, sizeof(Port))
        self.clock.nanoseconds = <uint64_t *> calloc(self.op_count + 1, sizeof(uint64_t))
        if self.ports == NULL or self.clock.nanoseconds == NULL:
            raise MemoryError()
        for i in range(self.input_count):
            check(eq_model_input(core.handle, i, &self.ports[i].info))
        for i in range(self.output_count):
            check(eq_model_output(core.handle, i, &self.ports[self.input_count + i].info))
        self.cpus = <uint32_t *> calloc(len(cpus) + 1, sizeof(uint32_t))
        if self.cpus == NULL:
            raise MemoryError()
        for i in range(<uint32_t> len(cpus)):
            self.cpus[i] = cpus[i]
        self.options = [threads, self.cpus, <uint32_t> len(cpus)]
        check(eq_session_create_with(core.handle, &self.options, &self.handle))

    def __dealloc__(self):
        eq_session_destroy(self.handle)
        free(self.cpus)
        free(self.ports)
        free(self.clock.nanoseconds)

    @property
    def threads(self):
        """How many threads work on a run, the caller's among them."""
        return self.options.threads

    def _memory(self):
        cdef size_t size, arena, scratch
        check(eq_session_size_with(self.model_core.handle, &self.options, &size, &arena, &scratch))
        return size, arena, scratch

    def _set_outputs(self, new_array, tuple layouts not None, tuple float_layouts not None):
        """`new_array(*layout)` makes an output; one layout each, of its dtype and of float32."""
        self.new_array = new_array
        self.layouts = layouts
        self.float_layouts = float_layouts

    cdef int begin(self) except -1:
        if self.busy:
            raise EdgeqError("this session is running in another thread; make one session a thread")
        self.busy = True
        return 0

    cdef eq_status copy_and_run(self, const Py_buffer *picture, uint32_t at) noexcept nogil:
        cdef uint32_t i
        cdef Port *port = self.ports
        cdef eq_status status = EQ_OK
        for i in range(self.input_count):
            if status == EQ_OK and picture != NULL and i == at:
                status = eq_preprocess_rgb(self.handle, i, <const uint8_t *> picture.buf,
                                           <uint32_t> picture.shape[1],
                                           <uint32_t> picture.shape[0],
                                           <size_t> picture.strides[0])
            elif status == EQ_OK:
                status = eq_set_input(self.handle, i, port.view.buf, port.dtype, port.view.len)
            port += 1
        if status == EQ_OK:
            status = eq_run(self.handle)
        for i in range(self.output_count):
            if status == EQ_OK:
                status = eq_get_output(self.handle, i, port.view.buf, port.dtype, port.view.len)
            port += 1
        return status

    cdef list new_outputs(self, tuple layouts):
        cdef list outputs = []
        for layout in layouts:
            outputs.append(PyObject_CallObject(self.new_array, layout))
        return outputs

    cdef bint hold_all(self, tuple inputs, list outputs, uint32_t *held, uint32_t skip) except -1:
        try:
            for array in inputs:
                if held[0] != skip and not hold(&self.ports[held[0]], array, 0):
                    return False
                held[0] += 1
            for array in outputs:
                if not hold(&self.ports[held[0]], array, PyBUF_WRITABLE):
                    return False
                held[0] += 1
        except (BufferError, TypeError, ValueError):
            return False
        return True

    cdef bint run_as_is(self, tuple inputs, list outputs, const Py_buffer *picture,
                        uint32_t at) except -1:
        """False, and nothing ran, if an array does not fit its tensor as it is."""
        cdef uint32_t held = 0, i
        cdef eq_status status
        if len(inputs) != self.input_count or len(outputs) != self.output_count:
            return False
        self.begin()
        try:
            if not self.hold_all(inputs, outputs, &held, self.input_count if picture == NULL else at):
                return False
            with nogil:
                status = self.copy_and_run(picture, at)
            check(status)
            return True
        finally:
            for i in range(held):
                PyBuffer_Release(&self.ports[i].view)
            self.busy = False

    def run(self, *arrays, outputs=None, float_output=False, **named):
        """Runs the network once; the outputs, each of its TensorInfo's shape and dtype.

        `arrays` are the inputs in order, `named` inputs by name (``**{"image:0": x}``). An array
        has exactly its tensor's shape, and its dtype or, for a quantized tensor, float32: that is
        quantized by the tensor's scale and zero point. Arrays that are not C-contiguous are copied.

        `float_output`: quantized outputs come as float32, scale * (q - zero_point). `outputs`: one
        C-contiguous, writable array per output to write into, of its dtype or float32 as above;
        these are what is returned.

        Raises ArgumentError, with what was expected and what was given, before anything runs.
        """
        cdef list results
        if not named and (outputs is None or not float_output):
            if outputs is not None:
                results = list(outputs)
            else:
                results = self.new_outputs(self.float_layouts if float_output else self.layouts)
            if self.run_as_is(arrays, results, NULL, 0):
                return results
        return self._run_checked(arrays, outputs, float_output, named)

    def _run_as_is(self, tuple inputs not None, list outputs not None):
        """Whether the arrays were what C takes, and the network ran."""
        return self.run_as_is(inputs, outputs, NULL, 0)

    def _run_image(self, uint32_t index, rgb, tuple others not None, list outputs not None):
        """Input `index` from a picture, the others as they are; False if something does not fit."""
        cdef Py_buffer view
        PyObject_GetBuffer(rgb, &view, PyBUF_STRIDES | PyBUF_FORMAT)
        try:
            return is_picture(&view) and self.run_as_is(others, outputs, &view, index)
        finally:
            PyBuffer_Release(&view)

    def _set_timing(self, bint on):
        """Whether the following runs fill nanoseconds()."""
        eq_session_set_hook(self.handle, <eq_op_hook> tick if on else NULL, &self.clock)

    def _nanoseconds(self):
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

    def _verify(self, uint32_t index):
        return self.digest(True, index)

    def golden_digest(self, uint64_t seed):
        """SHA-256 of all outputs for the inputs of `seed`: what a file's golden case holds."""
        return self.digest(False, seed)
