# SPDX-License-Identifier: Apache-2.0
"""A stand-in for tflite-runtime: ``from edgeq.tflite import Interpreter``.

The same methods with the same results and the same ValueErrors, on .tflite (converted when opened;
``pip install "edgeq[convert]"``) and .eqm files. What differs:

- Outputs are those of TFLite's reference kernels (``OpResolverType.BUILTIN_REF``), bit for bit.
- Only inputs and outputs have tensors; their indices are 0 ... inputs - 1, then the outputs'. Take
  them from the details, as ever.
- Shapes were fixed by the conversion: ``resize_tensor_input`` accepts the shape that is there.
- A damaged or unsupported network raises FormatError or UnsupportedError; there are no delegates.
"""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from .errors import ArgumentError, UnsupportedError
from .runtime.model import TensorInfo, load

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

__all__ = ["Interpreter", "OpResolverType", "SignatureRunner", "load_delegate"]

_SIGNATURE = "serving_default"


class OpResolverType(enum.Enum):
    """Accepted for compatibility: edgeq always computes what BUILTIN_REF computes."""

    AUTO = 0
    BUILTIN = 1
    BUILTIN_REF = 2
    BUILTIN_WITHOUT_DEFAULT_DELEGATES = 3


class _RefusedError(UnsupportedError, ValueError):
    """Programs that try something and fall back catch the ValueError that tflite-runtime raises."""


def load_delegate(library: str, options: dict[str, Any] | None = None) -> Any:
    """Refuses by a ValueError: edgeq has its own kernels and takes no delegates."""
    raise _RefusedError(f"edgeq has its own kernels and loads no delegate ({library})")


class Interpreter:
    """tflite-runtime's interpreter, on edgeq. See the module's docstring."""

    def __init__(
        self,
        model_path: str | os.PathLike[str] | None = None,
        model_content: bytes | None = None,
        experimental_delegates: Sequence[Any] | None = None,
        num_threads: int | None = None,
        experimental_op_resolver_type: OpResolverType = OpResolverType.AUTO,
        experimental_preserve_all_tensors: bool = False,
        experimental_disable_delegate_clustering: bool = False,
        **experimental: Any,
    ) -> None:
        for name in experimental:  # newer versions have more of them
            if not name.startswith("experimental_"):
                raise TypeError(f"Interpreter() got an unexpected keyword argument {name!r}")
        if experimental_delegates:
            raise _RefusedError("edgeq has its own kernels and takes no delegates")
        if experimental_preserve_all_tensors:
            raise _RefusedError("edgeq keeps no inner tensors: their memory is shared")
        if num_threads is not None and not isinstance(num_threads, int):
            raise ArgumentError("type of num_threads should be int")
        if num_threads is not None and num_threads < 1:
            raise ArgumentError("num_threads should >= 1")
        if (model_path is None) == (model_content is None):
            problem = "must be specified" if model_path is None else "can not both be specified"
            raise ArgumentError(f"`model_path` or `model_content` {problem}.")
        if model_path is not None and not os.path.isfile(model_path):
            raise ArgumentError(f"Could not open '{os.fspath(model_path)}'.")
        source = model_path if model_content is None else model_content
        assert source is not None
        self._session = load(source, threads=num_threads)
        self._tensors: tuple[TensorInfo, ...] = (*self._session.inputs, *self._session.outputs)
        self._arrays: list[Array] = []  # of inputs and outputs, from allocate_tensors on

    def allocate_tensors(self) -> None:
        """Makes the arrays of inputs and outputs, filled with 0; a second call keeps them."""
        if not self._arrays:
            self._arrays = [np.zeros(t.shape, t.dtype) for t in self._tensors]
            inputs = len(self._session.inputs)
            self._inputs, self._outputs = tuple(self._arrays[:inputs]), self._arrays[inputs:]

    def get_input_details(self) -> list[dict[str, Any]]:
        """One dict per input, as tflite-runtime's."""
        return [self._details(i) for i in range(len(self._session.inputs))]

    def get_output_details(self) -> list[dict[str, Any]]:
        """One dict per output, as tflite-runtime's."""
        return [self._details(i) for i in range(len(self._session.inputs), len(self._tensors))]

    def get_tensor_details(self, subgraph_index: int = 0) -> list[dict[str, Any]]:
        """Those of the inputs and outputs: edgeq keeps no other tensor."""
        return [self._details(i) for i in range(len(self._tensors))]

    def _details(self, index: int) -> dict[str, Any]:
        t = self._tensors[index]
        quantized = t.scale != 0 and t.dtype != np.float32
        shape = np.array(t.shape, np.int32)
        return {
            "name": t.name,
            "index": index,
            "shape": shape,
            "shape_signature": shape.copy(),
            "dtype": t.dtype.type,
            "quantization": (t.scale, t.zero_point) if quantized else (0.0, 0),
            "quantization_parameters": {
                "scales": np.array([t.scale] if quantized else [], np.float32),
                "zero_points": np.array([t.zero_point] if quantized else [], np.int32),
                "quantized_dimension": 0,
            },
            "sparsity_parameters": {},
        }

    def _array(self, index: int) -> Array:
        if not 0 <= index < len(self._tensors):
            raise ArgumentError(
                f"Invalid tensor index {index}: only inputs and outputs have one, "
                f"0 to {len(self._tensors) - 1}"
            )
        if not self._arrays:
            raise ArgumentError("Tensor data is null. Run allocate_tensors() first")
        return self._arrays[index]

    def set_tensor(self, tensor_index: int, value: Any) -> None:
        """Copies `value`, of exactly the tensor's dtype and shape, into an input.

        Raises ArgumentError, a ValueError, for anything else.
        """
        target = self._array(tensor_index)
        if tensor_index >= len(self._session.inputs):
            raise ArgumentError(f"Cannot set tensor: {tensor_index} is an output.")
        array = np.asarray(value)
        if array.shape != target.shape or array.dtype != target.dtype:
            _refuse_value(tensor_index, self._tensors[tensor_index].name, array, target)
        target[...] = array

    def get_tensor(self, tensor_index: int, subgraph_index: int = 0) -> Array:
        """A copy of an input or output."""
        return self._array(tensor_index).copy()

    def tensor(self, tensor_index: int) -> Callable[[], Array]:
        """A function that returns the live array of an input or output, not a copy.

        Writing into an input's array sets it; an output's array changes with every invoke(). Unlike
        tflite-runtime's, the arrays may be kept across invoke().
        """
        return lambda: self._array(tensor_index)

    def invoke(self) -> None:
        """Runs the network on the inputs. Raises RuntimeError before allocate_tensors()."""
        if not self._arrays:
            raise RuntimeError("Invoke called on model that is not ready: call allocate_tensors()")
        self._session.run(*self._inputs, outputs=self._outputs)

    def resize_tensor_input(
        self, input_index: int, tensor_size: Iterable[int], strict: bool = False
    ) -> None:
        """Accepts the shape that the input has; refuses others by a ValueError."""
        if not 0 <= input_index < len(self._session.inputs):
            raise ArgumentError(f"Invalid input index {input_index}")
        t = self._tensors[input_index]
        size = tuple(int(d) for d in tensor_size)
        if size != t.shape:
            raise _RefusedError(
                f"input {t.name!r} has shape {t.shape}, not {size}: shapes are fixed by the "
                "conversion; give edgeq.convert() the shape as input_shapes="
            )

    def reset_all_variables(self) -> None:
        """Does nothing: no network that edgeq runs keeps state between runs."""

    def get_signature_list(self) -> dict[str, dict[str, list[str]]]:
        """One signature, "serving_default", with the names that its runner takes and returns."""
        inputs, outputs = self._signature()
        return {_SIGNATURE: {"inputs": list(inputs), "outputs": list(outputs)}}

    def get_signature_runner(self, signature_key: str | None = None) -> SignatureRunner:
        """A function of named arrays. Raises ArgumentError for another key than the only one."""
        if signature_key not in (None, _SIGNATURE):
            raise ArgumentError("Invalid signature_key provided.")
        return SignatureRunner(self)

    def _signature(self) -> tuple[dict[str, int], dict[str, int]]:
        """Names of inputs and outputs, each with its index."""
        inputs = len(self._session.inputs)
        names = [_short(t.name) for t in self._tensors]
        return (
            {name: i for i, name in enumerate(names[:inputs])},
            {name: inputs + i for i, name in enumerate(names[inputs:])},
        )


class SignatureRunner:
    """What get_signature_runner() returns: call it with the inputs by name, get a dict of outputs.

    The names are the tensors' without "serving_default_" and ":0".
    """

    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter
        self._inputs, self._outputs = interpreter._signature()

    def __call__(self, **inputs: Any) -> dict[str, Array]:
        """Raises ArgumentError, a ValueError, for wrong names, dtypes and shapes."""
        if len(inputs) != len(self._inputs):
            raise ArgumentError(
                "Invalid number of inputs provided for running a SignatureDef, "
                f"expected {len(self._inputs)} vs provided {len(inputs)}"
            )
        for name in inputs:
            if name not in self._inputs:
                raise ArgumentError(f"Invalid Input name ({name}) for SignatureDef")
        self._interpreter.allocate_tensors()
        for name, value in inputs.items():
            self._interpreter.set_tensor(self._inputs[name], value)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(i) for name, i in self._outputs.items()}

    def get_input_details(self) -> dict[str, dict[str, Any]]:
        """Details by name."""
        return {name: self._interpreter._details(i) for name, i in self._inputs.items()}

    def get_output_details(self) -> dict[str, dict[str, Any]]:
        """Details by name."""
        return {name: self._interpreter._details(i) for name, i in self._outputs.items()}


def _short(name: str) -> str:
    return re.sub(r"^serving_default_(.+)", r"\1", re.sub(r":0$", "", name))


def _refuse_value(index: int, name: str, given: Array, target: Array) -> NoReturn:
    """Raises what tflite-runtime raises where dtype or shape are not the tensor's."""
    if given.dtype != target.dtype:
        raise ArgumentError(
            f"Cannot set tensor: Got value of type {given.dtype.name.upper()} but expected type "
            f"{target.dtype.name.upper()} for input {index}, name: {name}"
        )
    if given.ndim != target.ndim:
        raise ArgumentError(
            f"Cannot set tensor: Dimension mismatch. Got {given.ndim} but expected {target.ndim} "
            f"for input {index}."
        )
    axis = next(i for i, d in enumerate(target.shape) if given.shape[i] != d)
    raise ArgumentError(
        f"Cannot set tensor: Dimension mismatch. Got {given.shape[axis]} but expected "
        f"{target.shape[axis]} for dimension {axis} of input {index}."
    )
