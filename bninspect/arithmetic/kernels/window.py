"""What a window reads: sizes, strides, padding and dilation of convolutions and pooling, of any rank.

A convolution of every framework here is a cross-correlation (no kernel is flipped): along each axis, output o takes tap
k from the input at `o * stride - low + k * dilation`. A transposed one is its adjoint: input i adds tap k to the output
at `i * stride - low + k * dilation`, so output o takes tap k from the input at `(o + low - k * dilation) / stride`,
where that is a whole number. Inputs outside are zeros, in a quantised tensor the zero point.

Traps: TensorFlow's SAME puts the odd zero behind (ONNX: SAME_UPPER), Caffe's and SAME_LOWER in front; SAME depends on
the length of the input; SAME of a transposed convolution is that of the forward one from its output, which several
inputs lengths share, so the file states the length of the output; padding may be negative in ONNX (a crop).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bninspect.errors import BninspectError

Lengths: TypeAlias = tuple[int, ...]
Padding: TypeAlias = tuple[tuple[int, int], ...]
Indices: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class Window:
    """A window over the spatial axes, one number of each kind per axis.

    Raises:
        BninspectError: they differ in number, or a size, stride or dilation is not positive.
    """

    size: Lengths
    stride: Lengths
    padding: Padding
    """Zeros in front of and behind each axis."""
    dilation: Lengths

    def __post_init__(self) -> None:
        rank = len(self.size)
        if not len(self.stride) == len(self.padding) == len(self.dilation) == rank:
            raise BninspectError("a window contradicts itself", why=f"its parts differ in rank: {self}")
        if min((*self.size, *self.stride, *self.dilation), default=1) < 1:
            raise BninspectError("a window contradicts itself", why=f"a number in it is not positive: {self}")

    @classmethod
    def of(
        cls,
        size: Lengths,
        *,
        stride: Lengths | None = None,
        padding: Padding | None = None,
        dilation: Lengths | None = None,
    ) -> Window:
        """Return a window with stride and dilation 1 and no padding where nothing else is said."""
        ones = (1,) * len(size)
        return cls(size, stride or ones, padding or ((0, 0),) * len(size), dilation or ones)

    @property
    def taps(self) -> int:
        """Number of places in the window."""
        return int(np.prod(self.size, dtype=object)) if self.size else 1

    @property
    def extent(self) -> Lengths:
        """How far a window reaches along each axis, dilation included."""
        return tuple((size - 1) * dilation + 1 for size, dilation in zip(self.size, self.dilation, strict=True))

    def outputs(self, lengths: Lengths, *, ceil: bool = False) -> Lengths:
        """Return the spatial lengths of what it makes of an input of `lengths`, 0 where it does not fit.

        Args:
            lengths: of the spatial axes of the input.
            ceil: whether a window that begins inside the input, front padding included, but ends outside counts
                (`ceil_mode` of torch and ONNX).
        """
        self.require_rank(lengths)
        made = []
        for n, extent, stride, (low, high) in zip(lengths, self.extent, self.stride, self.padding, strict=True):
            room = n + low + high - extent
            count = (-(-room // stride) if ceil else room // stride) + 1
            if ceil and (count - 1) * stride >= n + low:
                count -= 1
            made.append(max(0, count))
        return tuple(made)

    def transposed_outputs(self, lengths: Lengths, output_padding: Lengths | None = None) -> Lengths:
        """Return the spatial lengths of what a transposed convolution makes of an input of `lengths`."""
        self.require_rank(lengths)
        more = output_padding or (0,) * len(lengths)
        return tuple(
            max(0, (n - 1) * stride + extent - low - high + extra)
            for n, extent, stride, (low, high), extra in zip(
                lengths, self.extent, self.stride, self.padding, more, strict=True
            )
        )

    def reads(
        self, lengths: Lengths, outputs: Lengths, positions: Indices, *, transposed: bool = False
    ) -> tuple[Indices, Mask]:
        """Return which inputs each output takes.

        Args:
            lengths: of the spatial axes of the input.
            outputs: of those of the output.
            positions: (P,) flat indices into (batch, *outputs).
            transposed: whether the convolution is.

        Returns:
            (P, taps) flat indices into (batch, *lengths), 0 where nothing is read, and (P, taps) where something is.
        """
        rank = len(lengths)
        batch, places = _split(positions, outputs)
        flat = batch.reshape(-1, *(1,) * rank)
        inside = np.ones((1,) * (rank + 1), np.bool_)
        for axis, place in enumerate(places):
            taps = np.arange(self.size[axis], dtype=np.int64) * self.dilation[axis]
            low, stride = self.padding[axis][0], self.stride[axis]
            if transposed:
                read, rest = np.divmod(place[:, np.newaxis] + low - taps, stride)
                fits = (rest == 0) & (read >= 0) & (read < lengths[axis])
            else:
                read = place[:, np.newaxis] * stride - low + taps
                fits = (read >= 0) & (read < lengths[axis])
            shape = [len(positions), *(1,) * rank]
            shape[axis + 1] = taps.size
            flat = flat * lengths[axis] + read.reshape(shape)
            inside = inside & fits.reshape(shape)
        indices = np.where(inside, flat, 0).reshape(len(positions), -1)
        return indices, np.broadcast_to(inside, flat.shape).reshape(len(positions), -1)

    def require_rank(self, lengths: Lengths) -> None:
        """Raise BninspectError if there are not as many axes as it has."""
        if len(lengths) != len(self.size):
            raise BninspectError(
                "a window does not fit its input", why=f"{len(self.size)} axes for an input with {len(lengths)}"
            )


def _split(positions: Indices, outputs: Lengths) -> tuple[Indices, list[Indices]]:
    """Return the batch and the coordinates of flat indices into (batch, *outputs)."""
    places: list[Indices] = []
    for n in reversed(outputs):
        positions, place = np.divmod(positions, n)
        places.insert(0, place)
    return positions, places


def same(
    lengths: Lengths, size: Lengths, stride: Lengths, dilation: Lengths | None = None, *, lower: bool = False
) -> Padding:
    """Return the padding with which the output has ceil(length / stride) places along each axis.

    Args:
        lengths: of the spatial axes of the input; of the output, for a transposed convolution.
        size: of the window.
        stride: of it.
        dilation: of it, 1 without it.
        lower: whether the odd zero stands in front (SAME_LOWER) and not behind (SAME, SAME_UPPER).

    Raises:
        BninspectError: they differ in number, or a size, stride or dilation is not positive.
    """
    Window.of(size, stride=stride, dilation=dilation).require_rank(lengths)
    made = []
    for n, k, step, spread in zip(lengths, size, stride, dilation or (1,) * len(size), strict=True):
        total = max(0, (-(-n // step) - 1) * step + (k - 1) * spread + 1 - n)
        less, more = total // 2, total - total // 2
        made.append((more, less) if lower else (less, more))
    return tuple(made)
