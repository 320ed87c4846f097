# SPDX-License-Identifier: Apache-2.0
"""Arrays by the buffer protocol; a part of _core.pyx."""

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
    PyObject_GetBuffer(array, &port.view, flags | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
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


cdef bint is_picture(const Py_buffer *view) noexcept nogil:
    """uint8 (H, W, 3), the bytes of a row without gaps."""
    return (dtype_of(view) == EQ_UINT8 and view.ndim == 3 and view.shape[2] == 3
            and view.shape[0] <= 0x7FFFFFFF and view.shape[1] <= 0x7FFFFFFF
            and view.strides[2] == 1 and view.strides[1] == 3 and view.strides[0] >= 0)
