# SPDX-License-Identifier: Apache-2.0
"""Models; a part of _core.pyx."""


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
                 text(eq_model_op_kernel(self.handle, i)), text(eq_model_op_slot(self.handle, i)),
                 text(eq_model_op_why(self.handle, i)), eq_model_op_packed(self.handle, i))
                for i in range(eq_model_op_count(self.handle))]

    def metadata(self, str key):
        cdef bytes name = key.encode()
        cdef const char *value = eq_model_metadata(self.handle, name)
        return None if value == NULL else text(value)

    def picture(self, uint32_t index):
        """Width, height, channels, fit, order, crop, pad, channels first; None: nothing known."""
        cdef eq_picture_info info
        if eq_model_picture(self.handle, index, &info) != EQ_OK:
            return None
        return (info.width, info.height, info.channels, info.fit, info.order, info.crop,
                (info.pad[0], info.pad[1], info.pad[2]), bool(info.channels_first))

    def isa(self):
        return text(eq_model_isa(self.handle))

    def golden_count(self):
        return eq_model_golden_count(self.handle)

    def session_size(self):
        cdef size_t size, arena, scratch
        check(eq_session_size_with(self.handle, NULL, &size, &arena, &scratch))
        return size, arena, scratch
