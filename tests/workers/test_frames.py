"""What comes out of a pipe is a message with numbers, an error, or the end."""

from __future__ import annotations

import contextlib
import io
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bninspect.workers.frames import read_frame


@given(st.binary(max_size=200))
def test_garbage_in_a_pipe_is_an_error_or_the_end(data: bytes) -> None:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        read_frame(io.BytesIO(data))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        ({"dtype": "|O", "shape": [1]}, "no worker sends"),
        ({"dtype": "<f4", "shape": [1 << 40]}, "no worker sends"),
        ({"dtype": "<f4", "shape": [-1]}, "no worker sends"),
        ({"dtype": 4, "shape": [1]}, r"got `int` - at `\$\[0\].dtype`"),
        ({"dtype": "<f4", "shape": [1.5]}, r"got `float` - at `\$\[0\].shape\[0\]`"),
        ({"dtype": "<f4", "shape": [4]}, "ends early"),
    ],
)
def test_a_frame_cannot_ask_for_objects_or_for_all_memory(array: dict[str, Any], said: str) -> None:
    text = json.dumps({"message": {}, "arrays": [array]}).encode()
    with pytest.raises(ValueError, match=said):
        read_frame(io.BytesIO(struct.pack(">Q", len(text)) + text))
