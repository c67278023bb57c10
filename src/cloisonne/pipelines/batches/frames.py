"""Messages to and from a worker process: a JSON object and raw bytes, each with its length before it."""

import asyncio
import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

_HEAD = struct.Struct(">II")
MAX_JSON = 128 * 2**20
MAX_BYTES = 512 * 2**20

Frame = tuple[dict[str, Any], bytes]


class BrokenFrame(Exception):
    """A stream ended within a message, or holds something else."""


def packed(message: Mapping[str, Any], data: bytes = b"") -> bytes:
    """A message as bytes."""
    text = json.dumps(message, ensure_ascii=False, allow_nan=True).encode("utf-8", "surrogatepass")
    return _HEAD.pack(len(text), len(data)) + text + data


def read_frame(stream: BinaryIO) -> Frame | None:
    """Read the next message of a blocking stream; None at its end."""
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    text, data = _lengths(head)
    body = stream.read(text + data)
    return _parsed(body, text) if len(body) == text + data else None


async def receive_frame(stream: asyncio.StreamReader) -> Frame | None:
    """Read the next message of an asyncio stream; None at its end."""
    try:
        text, data = _lengths(await stream.readexactly(_HEAD.size))
        return _parsed(await stream.readexactly(text + data), text)
    except asyncio.IncompleteReadError:
        return None


def _lengths(head: bytes) -> tuple[int, int]:
    text, data = _HEAD.unpack(head)
    if text > MAX_JSON or data > MAX_BYTES:
        raise BrokenFrame(f"A message has {text} and {data} bytes; at most {MAX_JSON} and {MAX_BYTES} are allowed.")
    return text, data


def _parsed(body: bytes, text: int) -> Frame:
    message = json.loads(body[:text].decode("utf-8", "surrogatepass"))
    if not isinstance(message, dict):
        raise BrokenFrame("A message is not a JSON object.")
    return message, body[text:]
