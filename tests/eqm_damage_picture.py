# SPDX-License-Identifier: Apache-2.0
"""Files that are wrong in one way each: how pictures become inputs."""

from __future__ import annotations

from eqm_damage import INVALID, UNSUPPORTED, Case, Edit
from eqm_editor import Editor

from edgeq.format import spec

PICTURE = "picture"


def _set(index: int, **changes: object) -> Edit:
    return lambda e: e.set("PICT", index, **changes)


def _shape(tensor: int, **dims: int) -> Edit:
    """Of an input and its copy."""

    def edit(e: Editor) -> None:
        for t in (tensor, tensor + 2):
            e.set("TENS", t, **dims)

    return edit


def _reserved(e: Editor) -> None:
    e.part("PICT").content[11] = 1


def _float_sized(e: Editor) -> None:
    """The grey input and its copy, and their ports, are int32 of half the shape."""
    for t in (1, 3):
        e.set("TENS", t, dtype=spec.DTYPES["int32"], d3=1)
    for port in (1, 3):
        e.set("IO  ", port, dtype=spec.DTYPES["int32"])


def _tall(e: Editor) -> None:
    """The input in colours has 65,536 rows of one pixel, the grey one lies behind it."""
    e.header["arena_size"] = 1 << 18
    _shape(0, d1=65536, d2=1)(e)
    for t in (1, 3):
        e.set("TENS", t, offset=65536 * 3)


PICTURES = [
    Case("picture_size", PICTURE, INVALID, "41 bytes are not a multiple of 20",
         "not a multiple of 20", lambda e: e.part("PICT").content.append(0)),
    Case("picture_input", PICTURE, INVALID, "picture 0: it is for input 2 of 2",
         "picture 0: there is no input 2", _set(0, input=2)),
    Case("picture_twice", PICTURE, INVALID, "picture 1: there is one for input 1 already",
         "picture 1: there is another one for input 1",
         lambda e: e.part("PICT").content.__setitem__(slice(20, 40), e.part("PICT").content[:20])),
    Case("picture_fit", PICTURE, UNSUPPORTED, "fit 3 is unknown", "fit 3 is unknown",
         _set(0, fit=3)),
    Case("picture_order", PICTURE, UNSUPPORTED, "order 3 is unknown", "order 3 is unknown",
         _set(0, order=3)),
    Case("picture_layout", PICTURE, UNSUPPORTED, "layout 2 is unknown", "layout 2 is unknown",
         _set(0, layout=2)),
    Case("picture_reserved", PICTURE, INVALID, "reserved bytes are not 0",
         "reserved fields are not 0", _reserved),
    Case("picture_pad", PICTURE, INVALID, "a colour and pads nothing",
         "a colour, but nothing is padded", _set(1, pad=b"\0\0\1")),
    Case("picture_crop_0", PICTURE, INVALID, "it keeps 0 of 65536", "65536: 0", _set(0, crop=0)),
    Case("picture_crop_large", PICTURE, INVALID, "it keeps 65537 of 65536", "65536: 65537",
         _set(0, crop=65537)),
    Case("picture_rank", PICTURE, INVALID, "its input is int8 (1, 2, 3, 3, 1)",
         "input that is not one picture: 0", _shape(0, rank=5)),
    Case("picture_batch", PICTURE, INVALID, "its input is int8 (2, 1, 3, 3)",
         "input that is not one picture: 0", _shape(0, d0=2, d1=1)),
    Case("picture_dtype", PICTURE, INVALID, "its input is int32 (1, 1, 2, 1)", "input of dtype 4",
         _float_sized),
    Case("picture_channels", PICTURE, INVALID, "3 channels, its order is gray",
         "channels that do not fit the order: 3", _set(1, order=2)),
    Case("picture_channels_last", PICTURE, INVALID, "2 channels, its order is bgr",
         "channels that do not fit the order: 2", _set(1, layout=1)),
    Case("picture_tall", PICTURE, INVALID, "65536 pixels a side", "beyond 65535 pixels a side: 0",
         _tall),
    Case("picture_table_misaligned", PICTURE, INVALID, "is not aligned to 2 bytes",
         "misplaced table at 1", _set(0, table=1)),
    Case("picture_table_absent", PICTURE, INVALID, "ends behind the end",
         "misplaced table at 4294967295", _set(1, table=spec.NONE)),
    Case("picture_table_behind", PICTURE, INVALID, "ends behind the end", "misplaced table at 600",
         _set(1, table=600)),
]  # fmt: skip
