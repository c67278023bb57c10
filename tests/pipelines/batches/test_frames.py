"""Messages between processes come back as they were sent, and nothing else is taken for one."""

import asyncio
import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloisonne.pipelines.batches.frames import MAX_JSON, BrokenFrame, packed, read_frame, receive_frame

MESSAGES = st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))


def received(data: bytes) -> object:
    async def one() -> object:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return await receive_frame(reader)

    return asyncio.run(one())


@given(MESSAGES, st.binary())
def test_messages_come_back(message: dict, data: bytes) -> None:
    frame = packed(message, data)
    assert read_frame(io.BytesIO(frame)) == received(frame) == (message, data)


@given(MESSAGES, st.binary(), st.data())
def test_a_part_of_a_message_is_none(message: dict, data: bytes, draw: st.DataObject) -> None:
    frame = packed(message, data)
    part = frame[: draw.draw(st.integers(0, len(frame) - 1))]
    assert read_frame(io.BytesIO(part)) is None
    assert received(part) is None


@pytest.mark.parametrize("frame", [struct.pack(">II", MAX_JSON + 1, 0), struct.pack(">II", 2, 0) + b"[]"])
def test_nothing_else_is_a_message(frame: bytes) -> None:
    for read in (lambda data: read_frame(io.BytesIO(data)), received):
        with pytest.raises(BrokenFrame):
            read(frame)
