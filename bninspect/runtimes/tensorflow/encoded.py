"""What a text must hold that a graph decodes first: without a WAV file, a graph that takes one cannot run at all."""

from __future__ import annotations

import base64
import io
import struct
import wave
import zlib
from collections.abc import Callable, Mapping

import numpy as np

from bninspect.formats.tensorflow.graph.flatten import FlatGraph, FlatNode, reached

_SAMPLES, _RATE, _SIDE = 16_000, 16_000, 224
_MOST_SAMPLES = 1 << 20


def content(flat: FlatGraph, placeholder: str, seed: int) -> bytes | None:
    """Return a file that an operation of the graph can decode; None if none decodes what the placeholder takes.

    It may do so in a loop over many texts, and decode them as Base64 first.

    Args:
        flat: the graph.
        placeholder: name of the node that takes the text.
        seed: of what the file holds.
    """
    generator = np.random.default_rng(seed)
    for node in flat.nodes.values():
        encode = _ENCODERS.get(node.op)
        if encode is not None and node.inputs:
            before = list(reached(flat, [node.inputs[0][0]]))
            if any(found.node.name == placeholder for found in before):
                made = encode(node, generator)
                return base64.urlsafe_b64encode(made) if any(found.op == "DecodeBase64" for found in before) else made
    return None


def _wav(node: FlatNode, generator: np.random.Generator) -> bytes:
    channels = _number(node, "desired_channels", 8) or 1
    samples = _number(node, "desired_samples", _MOST_SAMPLES) or _SAMPLES
    sound = generator.integers(-(1 << 15), 1 << 15, (samples, channels)).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(_RATE)
        out.writeframes(sound.tobytes())
    return file.getvalue()


def _number(node: FlatNode, attribute: str, most: int) -> int:
    """Return an attribute that is a number from 1 on (field 3 of AttrValue); 0 if it leaves the number open."""
    value = node.node.attribute(attribute).integer(3)
    return value if 0 < value <= most else 0


def _png(node: FlatNode, generator: np.random.Generator) -> bytes:
    """Return an image as PNG, which every decoder of images takes (PNG specification, 5.3: chunks)."""
    channels = 1 if _number(node, "channels", 4) == 1 else 3
    pixels = generator.integers(0, 256, (_SIDE, _SIDE * channels)).astype(np.uint8)
    rows = np.pad(pixels, ((0, 0), (1, 0))).tobytes()  # each begins with its filter, 0 for none
    header = struct.pack(">2I5B", _SIDE, _SIDE, 8, 0 if channels == 1 else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


_ENCODERS: Mapping[str, Callable[[FlatNode, np.random.Generator], bytes]] = {
    "DecodeWav": _wav,
    **dict.fromkeys(("DecodeJpeg", "DecodePng", "DecodeImage", "DecodeAndCropJpeg"), _png),
}
