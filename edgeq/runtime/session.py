# SPDX-License-Identifier: Apache-2.0
"""Running a network from numpy arrays."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError
from . import _core
from .threads import cpu_list, thread_count

if TYPE_CHECKING:
    import numpy.typing as npt
    from typing_extensions import Self

    from .model import Model, TensorInfo

    Array = npt.NDArray[Any]

_FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True)
class OpProfile:
    """Time of one operator in nanoseconds over the timed runs, and the instruction set it used."""

    index: int
    name: str
    type: str
    kernel: str
    minimum: int
    median: int


class Session(_core.Session):
    """The memory and the runs of one network. One thread at a time may use a session.

    ``inputs`` and ``outputs`` are tuples of TensorInfo, ``model`` may be shared by more sessions.
    `threads` and `affinity` are as for ``edgeq.load``.
    """

    def __new__(cls, model: Model, threads: int = 1, affinity: Sequence[int] = ()) -> Self:
        """Raises ArgumentError, UnsupportedError, OutOfMemoryError."""
        return super().__new__(cls, model, thread_count(threads), cpu_list(affinity))

    def __init__(self, model: Model, threads: int = 1, affinity: Sequence[int] = ()) -> None:
        self.model = model
        self.inputs = model.inputs
        self.outputs = model.outputs
        self._set_outputs(
            np.empty,
            tuple((t.shape, t.dtype) for t in self.outputs),
            tuple((t.shape, _output_dtype(t, True)) for t in self.outputs),
        )

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the file says of itself: "source_format", "source_sha256", "tool", ..."""
        return self.model.metadata

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the first output that has some, else ()."""
        return next((t.labels for t in self.outputs if t.labels), ())

    @property
    def memory_bytes(self) -> int:
        """RAM of this session: handle, activations, kernels' working memory.

        All but the stacks of the threads beyond the first, which are the system's.
        """
        return self._memory()[0]

    @property
    def arena_bytes(self) -> int:
        """RAM of the activations, inputs and outputs included."""
        return self._memory()[1]

    @property
    def scratch_bytes(self) -> int:
        """RAM of the kernels' working memory, of all threads together."""
        return self._memory()[2]

    def _run_checked(
        self,
        arrays: tuple[Array, ...],
        outputs: Sequence[Array] | None,
        float_output: bool,
        named: Mapping[str, Array],
    ) -> list[Array]:
        given = self._ordered(arrays, named)
        inputs = tuple(_input(i, t, a) for i, (t, a) in enumerate(zip(self.inputs, given)))
        if outputs is None:
            results = [np.empty(t.shape, _output_dtype(t, float_output)) for t in self.outputs]
        else:
            results = self._checked_outputs(outputs, float_output)
        if not self._run_as_is(inputs, results):
            raise ArgumentError("inputs or outputs changed while they were checked")
        return results

    def run_image(
        self,
        rgb: Array,
        *,
        input: str | None = None,
        others: Mapping[str, Array] | None = None,
        float_output: bool = False,
    ) -> list[Array]:
        """Runs the network on a picture: uint8 (H, W, 3), red, green, blue, of any size.

        Resize, crop, channel order, mean and std are those that the file carries (``edgeq.convert``
        with ``preprocess=``), in integers and by tables. `input`: the name of the input that gets
        the picture, where the file has preprocessing for several; `others`: those beside it, by
        name. `float_output` as for run().

        Raises ArgumentError, also where the file carries no preprocessing.
        """
        index = self._picture_input(input)
        picture = np.asarray(rgb)
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ArgumentError(
                f"a picture is uint8 (H, W, 3), given {picture.dtype} {picture.shape}"
            )
        rest = self._others(index, others or {})
        results = [np.empty(t.shape, _output_dtype(t, float_output)) for t in self.outputs]
        if self._run_image(index, picture, rest, results):
            return results
        if not self._run_image(index, picture.copy(order="C"), rest, results):
            raise ArgumentError("inputs changed while they were checked")
        return results

    def _picture_input(self, name: str | None) -> int:
        known = {self.inputs[i].name: i for i in self.model.pictures}
        if not known:
            raise ArgumentError(
                "the file carries no preprocessing of pictures; convert its source again and say "
                "what the network was trained with, as in edgeq convert MODEL --preprocess tf"
            )
        if name is None and len(known) > 1:
            raise ArgumentError(f"input= must say which input the picture is for: {list(known)}")
        if name is not None and name not in known:
            raise ArgumentError(
                f"no preprocessing for input {name!r}; it is there for {list(known)}"
            )
        return known[name] if name is not None else next(iter(known.values()))

    def _others(self, index: int, named: Mapping[str, Array]) -> tuple[Array | None, ...]:
        """The inputs beside the picture, which is None."""
        names = [t.name for i, t in enumerate(self.inputs) if i != index]
        if set(named) != set(names):
            raise ArgumentError(
                f"beside the picture the inputs are {names}, given are {sorted(named)}"
            )
        return tuple(
            None if i == index else _input(i, t, named[t.name]) for i, t in enumerate(self.inputs)
        )

    def _ordered(self, arrays: tuple[Array, ...], named: Mapping[str, Array]) -> list[Array]:
        names = [t.name for t in self.inputs]
        for name in named:
            if name not in names:
                raise ArgumentError(f"no input {name!r}; the inputs are {_listed(self.inputs)}")
        given: dict[int, Array] = dict(enumerate(arrays))
        for name, array in named.items():
            index = names.index(name)
            if index in given:
                raise ArgumentError(f"input {index} {name!r} is given twice")
            given[index] = array
        if set(given) != set(range(len(names))):
            raise ArgumentError(
                f"expected {len(names)} inputs, given {len(given)}; "
                f"the inputs are {_listed(self.inputs)}"
            )
        return [given[i] for i in range(len(names))]

    def _checked_outputs(self, outputs: Sequence[Array], float_output: bool) -> list[Array]:
        if isinstance(outputs, np.ndarray) or len(outputs) != len(self.outputs):
            raise ArgumentError(
                f"outputs= takes a list of {len(self.outputs)}: {_listed(self.outputs)}"
            )
        for i, (t, a) in enumerate(zip(self.outputs, outputs)):
            _check(f"output {i}", t, a, float_output)
            if not (a.flags.c_contiguous and a.flags.writeable):
                raise ArgumentError(f"output {i} {t.name!r}: not C-contiguous or not writable")
        return list(outputs)

    def random_inputs(self, seed: int = 0) -> list[Array]:
        """Inputs for measurements: uniform over the integers, float32 uniform in [0, 1)."""
        rng = np.random.default_rng(seed)
        return [_random(rng, t) for t in self.inputs]

    def profile(
        self, *arrays: Array, runs: int = 50, warmup: int = 5, **named: Array
    ) -> list[OpProfile]:
        """Times every operator over `runs` runs; inputs as for run(), none at all: random ones.

        A reading of the clock before and after every operator is part of the runs.
        Raises ArgumentError.
        """
        if runs < 1 or warmup < 0:
            raise ArgumentError(f"runs must be at least 1 and warmup 0, not {runs} and {warmup}")
        given = self._ordered(arrays, named) if arrays or named else self.random_inputs()
        samples = []
        self._set_timing(True)
        try:
            for _ in range(warmup + runs):
                self.run(*given)
                samples.append(self._nanoseconds())
        finally:
            self._set_timing(False)
        times = list(zip(*samples[warmup:]))
        return [
            OpProfile(i, op.name, op.type, op.kernel, min(t), int(statistics.median(t)))
            for i, (op, t) in enumerate(zip(self.model.ops, times))
        ]

    def verify(self) -> int:
        """Runs the golden cases in the file; how many there are.

        Raises VerifyError if one gives other bytes here than where the file was written.
        """
        for index in range(self.model.golden_count):
            self._verify(index)
        return self.model.golden_count

    def __repr__(self) -> str:
        return f"<edgeq.Session {_listed(self.inputs)} -> {_listed(self.outputs)}>"


def _listed(tensors: Sequence[TensorInfo]) -> str:
    return ", ".join(map(str, tensors))


def _output_dtype(t: TensorInfo, as_float: bool) -> np.dtype[Any]:
    return _FLOAT32 if as_float and t.scale else t.dtype


def _check(what: str, t: TensorInfo, a: Any, only_float: bool = False) -> None:
    """Raises ArgumentError unless `a` is an array that C takes as `t`."""
    dtypes = [t.dtype, _FLOAT32] if t.scale and t.dtype != _FLOAT32 else [t.dtype]
    if only_float:
        dtypes = dtypes[-1:]
    if not isinstance(a, np.ndarray) or a.dtype not in dtypes or a.shape != t.shape:
        given = f"{a.dtype} {a.shape}" if isinstance(a, np.ndarray) else type(a).__name__
        expected = " or ".join(map(str, dtypes))
        raise ArgumentError(f"{what} {t.name!r}: expected {expected} {t.shape}, given {given}")


def _input(index: int, t: TensorInfo, a: Any) -> Array:
    if not isinstance(a, np.ndarray) and hasattr(a, "__array__"):
        a = np.asarray(a)
    _check(f"input {index}", t, a)
    array: Array = a if a.flags.c_contiguous else a.copy(order="C")
    return array


def _random(rng: np.random.Generator, t: TensorInfo) -> Array:
    if t.dtype == _FLOAT32:
        return rng.random(t.shape, np.float32)
    if t.dtype == np.bool_:
        return rng.integers(0, 2, t.shape).astype(np.bool_)
    low, high = (int(v) for v in (np.iinfo(t.dtype).min, np.iinfo(t.dtype).max))
    return rng.integers(low, high, t.shape, t.dtype, endpoint=True)
