# SPDX-License-Identifier: Apache-2.0
"""What samples show: from the names of folders, from a file of labels, or from beside the arrays.

A label is a number (a class), an array (a mask) or an array (M, 5) of boxes: class, then four
numbers as the network has them.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError

KEYS = ("y", "labels")  # of an .npz file
FILES = ("labels.tsv", "labels.csv")  # in a folder of samples


class Labels:
    """What `of` finds for a sample, None where there is nothing."""

    def __init__(self, where: str, by_name: Mapping[str, Any], by_order: Sequence[Any]) -> None:
        self.where, self._by_name, self._by_order = where, by_name, by_order

    def __bool__(self) -> bool:
        return bool(self._by_name) or len(self._by_order) > 0

    def of(self, name: str, index: int | None) -> Any:
        """`name`: a path, with [n] behind it the nth sample there; `index`: among all samples, None
        where only some of them were taken."""
        file, number = re.fullmatch(r"(.*?)(?:\[(\d+)\])?", name, re.S).groups()  # type: ignore[union-attr]
        if len(self._by_order):
            place = index if number is None else int(number)
            if place is None:
                raise ArgumentError(
                    f"{self.where} has labels in order, which fit all samples only: give no limit, "
                    "or a file of names and labels"
                )
            if place >= len(self._by_order):
                raise ArgumentError(f"{self.where}: there is no label for sample {place}")
            return self._by_order[place]
        path = Path(file)
        for i in range(len(path.parts)):  # the longest end of the path that is known
            found = self._by_name.get("/".join(path.parts[i:]))
            if found is not None:
                return found
        return self._by_name.get(path.as_posix())


def read_labels(data: str, given: str = "", classes: Sequence[str] = ()) -> Labels:
    """The labels in the file `given`, else those that lie in or beside `data`: see edgeq eval.

    `classes`: the names of the classes 0, 1, ... Without them, names that are no numbers are
    numbered in their order. Raises ArgumentError, OSError.
    """
    path = Path(data)
    if given:
        return _file(Path(given), classes)
    if path.is_dir():
        for name in FILES:
            if (path / name).is_file():
                return _file(path / name, classes)
        return _folders(path, classes)
    if path.suffix.lower() == ".npz":
        return _arrays(path)
    return Labels("", {}, ())


def _folders(path: Path, classes: Sequence[str]) -> Labels:
    """A folder a class: what lies in it."""
    folders = sorted(f.name for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))
    if not folders or any(f.is_file() and not f.name.startswith(".") for f in path.iterdir()):
        return Labels("", {}, ())
    numbers = _numbers(folders, classes, str(path))
    files: dict[str, Any] = {}
    for folder, number in zip(folders, numbers):
        for root, _, names in os.walk(path / folder):
            inside = Path(root).relative_to(path)
            files.update(((path / inside / name).as_posix(), number) for name in names)
    return Labels(str(path), files, ())


def _numbers(names: Sequence[str], classes: Sequence[str], where: str) -> list[int]:
    """The numbers of classes with these names."""
    if all(name in classes for name in names):
        return [list(classes).index(name) for name in names]
    if all(name.isdecimal() for name in names):
        return [int(name) for name in names]
    if classes:
        unknown = next(n for n in names if n not in classes)
        raise ArgumentError(
            f"{where}: the class {unknown!r} is not among the {len(classes)} names of classes"
        )
    order = sorted(set(names))
    return [order.index(name) for name in names]


def _file(path: Path, classes: Sequence[str]) -> Labels:
    if path.suffix.lower() in (".npy", ".npz"):
        return _arrays(path)
    rows = _rows(path)
    widths = {len(row) for row in rows}
    if widths == {1}:
        return Labels(str(path), {}, _numbers([row[0] for row in rows], classes, str(path)))
    if not (widths == {2} or min(widths) >= 6):
        raise ArgumentError(
            f"{path}: a line is a class, or a file and its class, or a file, a class and a box of "
            "four numbers, separated by tabs or commas"
        )
    numbers = _numbers([row[1] for row in rows], classes, str(path))
    if widths == {2}:
        return Labels(str(path), {row[0]: n for row, n in zip(rows, numbers)}, ())
    boxes: dict[str, list[list[float]]] = {}
    for row, number in zip(rows, numbers):
        try:
            box = [float(v) for v in row[2:6]]
        except ValueError:
            raise ArgumentError(f"{path}: {row[2:6]} of {row[0]} are not four numbers") from None
        boxes.setdefault(row[0], []).append([number, *box])
    return Labels(str(path), {name: np.array(found) for name, found in boxes.items()}, ())


def _rows(path: Path) -> list[list[str]]:
    text = path.read_text(encoding="utf-8-sig")
    separator = "\t" if "\t" in text else ","
    rows = [
        [cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter=separator)
    ]
    rows = [row for row in rows if any(row)]
    if rows and [cell.lower() for cell in rows[0][:2]] in (["file", "class"], ["file", "label"]):
        rows = rows[1:]
    if not rows:
        raise ArgumentError(f"{path}: no labels in this file")
    return rows


def _arrays(path: Path) -> Labels:
    try:
        found = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise ArgumentError(f"{path}: {error}") from None
    if isinstance(found, np.ndarray):
        y = found
    else:
        with found:
            key = next((k for k in KEYS if k in found.files), None)
            if key is None:
                return Labels("", {}, ())
            y = found[key]
    if y.ndim == 0:
        raise ArgumentError(f"{path}: the labels are one number, not one a sample")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    return Labels(str(path), {}, list(y))
