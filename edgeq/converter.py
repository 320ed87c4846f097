# SPDX-License-Identifier: Apache-2.0
"""Network files to .eqm: the one module that knows both the converter and the runtime.

The runtime makes the golden cases: it runs what was just written and the digests go into the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import ArgumentError, FormatError
from .format.cost import macs
from .format.golden import SEEDS
from .format.spec import ARITH_R15, ARITH_R22, ARITH_R31
from .runtime import _core
from .runtime.model import MAGIC, Model
from .runtime.session import Session

if TYPE_CHECKING:
    from typing_extensions import TypeAlias

    from .data.preprocess import Preprocess
    from .data.samples import Where
    from .format.program import Picture, Port, Program
    from .ir.graph import Graph
    from .quantize.calibrate import Options
    from .quantizer import Calibrated

Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview"
Preprocessing: TypeAlias = "str | Preprocess | Mapping[str, str | Preprocess]"
Progress: TypeAlias = "Callable[[str, float], None]"  # what is done now, fraction of the way

ONNX_BEGIN = b"\x08"  # the tag of ModelProto.ir_version, which comes first
ARITHMETICS = ("exact", "native")
_REQUANTIZATION = {ARITH_R31: "R31", ARITH_R15: "R15", ARITH_R22: "R22"}


@dataclass(frozen=True)
class Report:
    """What a conversion made.

    `macs`: multiply-accumulates of one run. `weight_bytes`: all constants. `ram_bytes`: exactly
    what eq_session_size() asks for, `arena_bytes` of it activations, `scratch_bytes` working memory
    on this machine. `requantization`: ``"R31"`` is TFLite's own, ``"R15"`` that of native
    arithmetic, ``"R22"`` that of layers with int16, ``"R31+R15"``: some layers have this, some
    that, ``"none"``: nothing to do. `notes` say why a layer keeps R31 although native arithmetic
    was asked for.
    """

    source: str
    ops: int
    macs: int
    weight_bytes: int
    file_bytes: int
    ram_bytes: int
    arena_bytes: int
    scratch_bytes: int
    requantization: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Converted:
    """The bytes of an .eqm file, and the report on them.

    `calibrated`: of a float network, what was decided and why (quantize.calibrate.Quantized).
    """

    data: bytes
    report: Report
    calibrated: Calibrated | None = None

    def __repr__(self) -> str:
        return f"<edgeq.Converted {self.report}>"


def convert(
    source: Source,
    out: str | os.PathLike[str] | None = None,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    arithmetic: str | None = None,
    calibrate: Where | None = None,
    samples: int | None = None,
    skip_bad: bool = False,
    preprocess: Preprocessing | None = None,
    method: str = "auto",
    effort: str = "default",
    max_16bit: float = 1.0,
    progress: Progress | None = None,
) -> Converted:
    """Converts a .tflite or .onnx file, given by path or as bytes, to an .eqm file.

    A float network is calibrated first, with at most `samples` of what `calibrate` is: a folder of
    pictures, .npy, .npz or .wav files, a Python file, arrays or an iterable of them
    (edgeq.data.samples.open_samples), or ``"none"``: inputs are invented. `skip_bad`: files of it
    that cannot be read are left out, and named in the report. `method`: how ranges are found,
    ``"auto"`` or one of quantize.ranges.METHODS. `effort`: ``"fast"``, ``"default"`` or
    ``"high"``. `max_16bit`: the largest share of the work that may have int16 activations.

    `out`: also write it there; a file of that name is replaced when the new one is complete, and
    left alone if the conversion fails. `input_shapes`: shapes by input name, for inputs with sizes
    that the file leaves open. `arithmetic` of a quantized network: ``"exact"`` computes what the
    source network's own reference kernels compute, ``"native"`` requantizes layers with weights by
    R15 of docs/NUMERICS.md, which vector units do faster; single outputs then differ by a step.
    `preprocess`: what the network wants of pictures, ``"tf,crop=0.875"`` (edgeq.Preprocess); the
    file carries it, and ``Session.run_image`` and ``eq_preprocess_rgb`` do it. A mapping where
    several inputs take pictures: by the name of the input.
    `progress`: called with what is done now and a fraction in [0, 1].
    The same quantized source gives the same bytes everywhere. What is decided of a float network
    hangs on sums of float32, whose last bits differ with the processor.

    Raises UnsupportedError, which lists everything in the network that cannot be run; FormatError
    for a damaged file or another kind of file; ArgumentError; DependencyError; OSError.
    """
    tell = progress or (lambda step, fraction: None)
    from .passes import float_nodes
    from .quantize.calibrate import Options

    if arithmetic not in (None, *ARITHMETICS):
        raise ArgumentError(f"arithmetic must be 'exact' or 'native', not {arithmetic!r}")
    options = Options(method, effort, max_16bit)
    tell("reading", 0.0)
    data, path = _read(source)
    if path and out is not None and os.path.exists(out) and os.path.samefile(path, out):
        raise ArgumentError(f"{os.fspath(out)}: the output is the source itself")
    graph = _import(data, path, input_shapes)
    calibrated = None
    floats = float_nodes(graph)
    if floats:
        where = path or "these bytes"
        if calibrate is None:
            raise ArgumentError(
                f"{where}: its operators compute on float32; give calibration data: "
                "--calibrate FOLDER_OR_FILE, or --calibrate none to go without (the first is op"
                f" {floats[0].source_index} {floats[0].op} {floats[0].name!r})"
            )
        calibrated = _calibrate(graph, calibrate, samples, preprocess, options, tell, skip_bad)
        graph, arithmetic = calibrated.quantized.graph, "native"
    elif calibrate is not None:
        raise ArgumentError(
            f"{path or 'these bytes'}: the network is quantized already; leave calibration out"
        )
    tell("rewriting", 0.55)
    program = _lower(graph, arithmetic or "exact")
    if calibrated is not None:
        program.notes += [*calibrated.notes, *map(str, calibrated.findings)]
    _add_pictures(program, preprocess)
    program.metadata = _metadata(program, data, arithmetic or "exact")
    tell("planning memory", 0.6)
    converted = _write(program, path, tell)
    if calibrated is not None:
        converted = replace(converted, calibrated=calibrated)
    if out is not None:
        write_file(out, converted.data)
    tell("done", 1.0)
    return converted


def read_network(source: Source, input_shapes: Mapping[str, Sequence[int]] | None = None) -> Graph:
    """The graph of a .tflite or .onnx file, as convert() sees it first; raises what that raises."""
    return _import(*_read(source), input_shapes)


def _read(source: Source) -> tuple[bytes, str]:
    if isinstance(source, (str, os.PathLike)):
        return Path(source).read_bytes(), os.fspath(source)
    return bytes(source), ""


def _import(data: bytes, path: str, input_shapes: Mapping[str, Sequence[int]] | None) -> Graph:
    where = path or "these bytes"
    if data[:8] == MAGIC:
        raise FormatError(f"{where}: an .eqm file already")
    if data[4:8] == b"TFL3":
        from .importers.tflite import import_tflite

        return import_tflite(data, path or "<memory>", input_shapes)
    if path.lower().endswith(".onnx") or data[:1] == ONNX_BEGIN:
        return _import_onnx(data, path, input_shapes)
    raise FormatError(
        f"{where}: neither a .tflite file ('TFL3' is missing at byte 4) nor an .onnx file"
    )


def _import_onnx(data: bytes, path: str, input_shapes: Mapping[str, Sequence[int]] | None) -> Graph:
    from .importers.onnx import import_onnx
    from .passes.layout import layout
    from .passes.order import order
    from .passes.qdq import absorb_qdq

    graph = import_onnx(data, path or "<memory>", input_shapes)
    if all(n.op != "DEQUANTIZE" for n in graph.nodes):
        return graph
    return order(absorb_qdq(layout(graph)))


def _calibrate(
    graph: Graph,
    samples: Where,
    limit: int | None,
    preprocess: Preprocessing | None,
    options: Options,
    tell: Progress,
    skip_bad: bool,
) -> Calibrated:
    from .quantizer import calibrate

    if isinstance(preprocess, Mapping):
        raise ArgumentError("preprocess: calibration takes one for all pictures")
    return calibrate(graph, samples, limit, preprocess, options, tell, skip_bad)


def _lower(graph: Graph, arithmetic: str) -> Program:
    from .passes import run_passes
    from .quantize.lower import lower

    return lower(run_passes(graph), arithmetic)


def _add_pictures(program: Program, preprocess: Preprocessing | None) -> None:
    """Puts what happens to pictures into the program, as tables, and into its metadata, as text."""
    from .data.preprocess import Preprocess, picture_shape

    if preprocess is None:
        return
    ports = {port.name: port for port in program.inputs}
    if isinstance(preprocess, Mapping):
        named = dict(preprocess)
    else:
        fitting = []
        for port in program.inputs:
            with contextlib.suppress(ArgumentError):
                picture_shape(port.value.shape)
                fitting.append(port.name)
        if len(fitting) != 1:
            inputs = ", ".join(f"{p.name!r} {p.value.shape}" for p in program.inputs)
            raise ArgumentError(
                f"preprocess: {len(fitting)} inputs have the shape of a picture, of {inputs}; "
                "with several, name one: convert(..., preprocess={name: ...})"
            )
        named = {fitting[0]: preprocess}
    texts = []
    for name, given in named.items():
        if name not in ports:
            raise ArgumentError(f"preprocess: no input {name!r}; the inputs are {list(ports)}")
        wanted = given if isinstance(given, Preprocess) else Preprocess.parse(given)
        program.pictures.append(_picture(ports[name], wanted))
        texts.append(str(wanted) if len(named) == 1 else f"{name}: {wanted}")
    program.metadata["preprocess"] = "\n".join(texts)


def _picture(port: Port, wanted: Preprocess) -> Picture:
    from .data.preprocess import picture_shape
    from .format.program import Picture
    from .format.spec import CROP_ONE, MAX_PICTURE

    value = port.value
    height, width, channels, first = picture_shape(value.shape)
    if value.dtype not in ("int8", "int16") or not value.scale:
        raise ArgumentError(
            f"preprocess: input {port.name!r} is {value.dtype} inside of the network and not "
            "quantized; pictures need an int8 or int16 input with a scale"
        )
    if max(height, width) > MAX_PICTURE:
        raise ArgumentError(f"preprocess: input {port.name!r} has {width} x {height} pixels")
    table = wanted.table(channels, value.scale, value.zero_point, value.dtype)
    crop = round(wanted.crop * CROP_ONE)
    order = wanted.order_of(channels)
    return Picture(port, wanted.fit, order, first, crop, wanted.pad, table)


def _metadata(program: Program, data: bytes, arithmetic: str) -> dict[str, str]:
    """No time, no file name: the same source gives the same file, wherever it lies."""
    return {
        **({"arithmetic": arithmetic} if arithmetic != "exact" else {}),
        **program.metadata,
        "source_sha256": hashlib.sha256(data).hexdigest(),
        "tool": f"edgeq {_core.version()}",
    }


def _write(program: Program, path: str, tell: Progress) -> Converted:
    """Writes the file twice: to run it, and with what the runs gave."""
    from .format.plan import plan
    from .format.writer import write_program

    memory = plan(program)
    model = Model(write_program(program, memory=memory))
    session = Session(model)
    golden = []
    for i, seed in enumerate(SEEDS):
        tell("running golden cases", 0.6 + 0.3 * i / len(SEEDS))
        golden.append((seed, session.golden_digest(seed)))
    tell("writing", 0.9)
    data = write_program(program, golden, memory)
    ram, arena, scratch = model.memory
    report = Report(
        source=path,
        ops=len(program.ops),
        macs=sum(macs(o.opcode, [v.shape for v in o.inputs], o.output.shape) for o in program.ops),
        weight_bytes=_weight_bytes(program),
        file_bytes=len(data),
        ram_bytes=ram,
        arena_bytes=arena,
        scratch_bytes=scratch,
        requantization=_requantization(program),
        notes=tuple(program.notes),
    )
    return Converted(data, report)


def _weight_bytes(program: Program) -> int:
    arrays = {}
    for op in program.ops:
        for value in op.inputs:
            if value.owner.data is not None:
                arrays[id(value.owner.data)] = value.owner.data
        for param in op.params.values():
            if isinstance(param, np.ndarray):
                arrays[id(param)] = param
    return sum(array.nbytes for array in arrays.values())


def _requantization(program: Program) -> str:
    kinds = {o.params["arithmetic"] for o in program.ops if "arithmetic" in o.params}
    return "+".join(_REQUANTIZATION[kind] for kind in sorted(kinds)) or "none"


def write_file(out: str | os.PathLike[str], data: bytes) -> None:
    """Puts `data` into the file `out`, which is never seen half written."""
    path = Path(out)
    with _temporary_beside(path) as temporary:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    with contextlib.suppress(OSError):  # not every file system can
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def _temporary_beside(path: Path) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    try:
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
