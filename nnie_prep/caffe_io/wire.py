"""Protobuf's wire format, as far as a walk through a caffemodel needs it.

A caffemodel is walked field by field and layer by layer, so that weights are never parsed, only
located: a file may exceed the 2 GiB that one protobuf message may have, and memory stays small.

    field = key varint (number << 3 | wire type), then
        0  varint      1  8 bytes      2  length varint and that many bytes      5  4 bytes
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from nnie_prep.stored import cannot_read

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5

_FIXED_SIZE = {FIXED64: 8, FIXED32: 4}


class WireError(Exception):
    """The bytes are not a protobuf message; the text says at which byte of the file and why."""


class Field(NamedTuple):
    """One field as found: `start` is the offset of its key, `begin` that of its payload."""

    number: int
    wire_type: int
    start: int
    begin: int
    end: int
    value: int = 0  # of a varint


class Source:
    """An open file that is looked at in many small places, most of them near the one before."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = os.fstat(file.fileno()).st_size
        self._begin, self._window = 0, b""

    def bytes(self, begin: int, count: int) -> bytes:
        """file[begin:begin + count], which the file's end may cut short. UserError if its disk fails."""
        if not self._begin <= begin <= self._begin + len(self._window) - count:
            try:
                self._window = os.pread(self.file.fileno(), max(count, 1 << 12), begin)
            except OSError as error:
                raise cannot_read(self.file, error) from error
            self._begin = begin
        offset = begin - self._begin
        return self._window[offset : offset + count]


def fields(source: Source, begin: int, end: int) -> Iterator[Field]:
    """The fields of the message in file[begin:end]; payloads are skipped, not read."""
    position = begin
    while position < end:
        start = position
        key, position = _varint(source, position, end)
        number, wire_type = key >> 3, key & 7
        value = 0
        payload = position
        if wire_type == VARINT:
            value, position = _varint(source, position, end)
        elif wire_type == LENGTH:
            length, payload = _varint(source, position, end)
            position = payload + length
        elif wire_type in _FIXED_SIZE:
            position += _FIXED_SIZE[wire_type]
        else:
            raise WireError(f"byte {start}: wire type {wire_type} is not one of a caffemodel's")
        if number == 0:
            raise WireError(f"byte {start}: field number 0")
        if position > end:
            raise WireError(f"byte {start}: field {number} needs {position - end} bytes more than there are")
        yield Field(number, wire_type, start, payload, position, value)


def _varint(source: Source, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift, byte in enumerate(source.bytes(position, min(10, end - position))):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, position + shift + 1
    raise WireError(f"byte {position}: a number that does not end")


def read_bytes(source: Source, begin: int, end: int) -> bytes:
    """file[begin:end], whole."""
    data = source.bytes(begin, end - begin)
    if len(data) != end - begin:
        raise WireError(f"byte {begin}: the file ended")
    return data


def varint(value: int) -> bytes:
    """A number as varint."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def key(number: int, wire_type: int) -> bytes:
    """A field's key."""
    return varint(number << 3 | wire_type)


def length_delimited(number: int, payload: bytes) -> bytes:
    """A whole field with a payload of bytes."""
    return key(number, LENGTH) + varint(len(payload)) + payload
