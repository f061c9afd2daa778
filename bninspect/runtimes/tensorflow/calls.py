"""One place in a graph where one layer is called: what to fetch there, and what the fetched arrays mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bninspect.formats.tensorflow.graph.flatten import Tensor
from bninspect.formats.tensorflow.norms.layers import site_axis
from bninspect.formats.tensorflow.norms.site import NormSite
from bninspect.formats.tensorflow.unused_variables import per_channel
from bninspect.records import Array, BatchNorm, Observation
from bninspect.runtimes import probe
from bninspect.runtimes.keras import hook


@dataclass(frozen=True, eq=False)
class GraphCall:
    """A call of a layer."""

    layer: BatchNorm
    site: NormSite

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """Where the layer's parameters are to be had; what only the operation asked for is not among them."""
        return {name: leaf.tensor for name, leaf in self.site.parameters.items() if name in self.layer.arrays}

    def axes(self, rank: int) -> tuple[int, ...]:
        """Return the axes of an x of this rank that the parameters run along, counted from the front."""
        arrays = self.layer.arrays
        shaping = next((arrays[name] for name in ("moving_variance", "gamma", "beta") if name in arrays), None)
        return tuple(number % rank for number in site_axis(self.site, shaping))

    def points(self, rank: int, dtype: Any) -> Iterator[Array]:
        """Yield the input that tries every channel of the layer, of a rank and a NumPy type; as `probe.points`."""
        epsilon = self.site.epsilon or 0.0
        for points in probe.points(self.layer.arrays, epsilon, self.axes(rank), rank, self.site.output):
            yield points.astype(dtype)

    def observation(self, observed: str, values: Mapping[str, Any]) -> Observation:
        """Return what was observed: `values` has x, y and the parameters by their standard names."""
        x, y = hook.array(values["x"]), hook.array(values["y"])
        return Observation(
            layer=self.layer.name,
            observed=observed,
            x=x,
            y=y,
            axis=self.axes(x.ndim),
            arithmetic=self.site.arithmetic,
            output=self.site.output,
            form=self.site.form,
            epsilon=self._epsilon(),
            loaded={name: per_channel(hook.array(values[name])) for name in self.parameters},
        )

    def _epsilon(self) -> float | None:
        """Return the epsilon that the kernel adds; as the file states it, if that is the same number to the kernel."""
        site, stated = self.site, self.layer.epsilon
        kernel = np.float64 if site.arithmetic == "float64" else np.float32
        if site.epsilon is not None and stated is not None and kernel(site.epsilon) == kernel(stated):
            return stated
        return site.epsilon
