"""Reading a variable file of Paddle's static graph ("LoD tensor") with numpy alone.

``fluid.io.save_persistables`` writes one such file per variable, named like the variable. Layout
(PaddlePaddle/Paddle, ``paddle/fluid/framework/lod_tensor.cc``: ``SerializeToStream``, and
``tensor_util.cc``: ``TensorToStream``), all numbers little-endian:

==========================  =====================================================================
uint32                      version of the LoD tensor, 0
uint64                      number of levels of detail (0 for a parameter)
per level: uint64, bytes    size in bytes, then offsets as uint64 (nothing a parameter needs)
uint32                      version of the tensor, 0
int32, bytes                size, then a protobuf ``VarType.TensorDesc``
bytes                       the values, row by row, to the end of the file
==========================  =====================================================================

``TensorDesc`` (``framework.proto``): field 1 = data type (an enum, varint), field 2 = the
dimensions (int64 varints; proto2 writes them one by one, a packed list is read as well).
"""

import math
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import DataError

# VarType.Type in framework.proto → numpy. BF16 (22) has no numpy type and is read as its bits.
_DTYPES = {2: "<i4", 3: "<i8", 4: "<f2", 5: "<f4", 6: "<f8", 22: "<u2"}
_BF16 = 22
_VARINT, _PACKED = 0, 2


class _Header(NamedTuple):
    data_type: int
    shape: tuple[int, ...]
    values_at: int


def read_lod_tensor(path: Path) -> NDArray[Any]:
    """The variable in ``path`` in its own type and shape (bfloat16 becomes float32).

    Raises DataError when the file is cut short or too long, or is no such file at all.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    try:
        header = _parse_header(content)
    except (struct.error, IndexError) as error:
        raise DataError(
            f"{path} is not a whole variable file of Paddle: its header needs more than the "
            f"{len(content)} bytes there are; copy the checkpoint again"
        ) from error
    except ValueError as error:
        raise DataError(f"{path} is not a variable file of Paddle: {error}") from error
    expected = (
        header.values_at + math.prod(header.shape) * np.dtype(_DTYPES[header.data_type]).itemsize
    )
    if len(content) != expected:
        problem = "is cut short" if len(content) < expected else "has bytes left over"
        raise DataError(
            f"{path} {problem}: expected {expected} bytes for shape {header.shape}, "
            f"found {len(content)}; copy the checkpoint again"
        )
    values = np.frombuffer(content, _DTYPES[header.data_type], offset=header.values_at)
    if header.data_type == _BF16:
        values = bfloat16_to_float32(values)
    return values.reshape(header.shape)


def bfloat16_to_float32(bits: NDArray[Any]) -> NDArray[np.float32]:
    """bfloat16 is the upper half of a float32: its bits as uint16 → the same values, exact."""
    return (bits.astype("<u4") << 16).view("<f4")


def _parse_header(content: bytes) -> _Header:
    _check_version(content, 0)
    (levels,) = struct.unpack_from("<Q", content, 4)
    position = 12
    for _ in range(levels):
        (size,) = struct.unpack_from("<Q", content, position)
        position += 8 + size
    _check_version(content, position)
    (size,) = struct.unpack_from("<i", content, position + 4)
    values_at = position + 8 + size
    if size <= 0:
        raise ValueError(f"its description has {size} bytes")
    if values_at > len(content):
        raise IndexError
    data_type, shape = _parse_description(content[position + 8 : values_at])
    if data_type not in _DTYPES:
        raise ValueError(
            f"data type {data_type} is not among int32, int64, float16, float32, float64, bfloat16"
        )
    if any(size < 0 for size in shape):
        raise ValueError(f"its shape {shape} has a negative size")
    return _Header(data_type, shape, values_at)


def _check_version(content: bytes, position: int) -> None:
    (version,) = struct.unpack_from("<I", content, position)
    if version != 0:
        raise ValueError(f"expected version 0 at byte {position}, found {version}")


def _parse_description(message: bytes) -> tuple[int, tuple[int, ...]]:
    """A ``TensorDesc`` → (data type, dimensions)."""
    data_type, shape, position = -1, list[int](), 0
    while position < len(message):
        key, position = _varint(message, position)
        field, wire_type = key >> 3, key & 7
        if wire_type not in (_VARINT, _PACKED):
            raise ValueError(f"its description has a field of wire type {wire_type}")
        value, position = _varint(message, position)
        if field == 1 and wire_type == _VARINT:
            data_type = value
        elif field == 2 and wire_type == _VARINT:
            shape.append(_signed(value))
        elif wire_type == _PACKED:
            end = position + value
            while field == 2 and position < end:
                value, position = _varint(message, position)
                shape.append(_signed(value))
            position = end
    return data_type, tuple(shape)


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """Seven bits a byte, the low ones first → (value, position after it)."""
    value, shift = 0, 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
