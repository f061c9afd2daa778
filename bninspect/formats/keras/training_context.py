"""Which `training` Keras 3 gives each batch norm where nobody says it: in `model(x)`, and in every export.

A call that says `training`, or whose layer has a default for it, hands it on to all that is called after it, not only
to what it holds; and what is given to a model overrules what its own calls say. So Dropout(training=True) in front of a
batch norm, or no more than a Resizing layer, has it normalise by the statistics of the batch. `predict` says False
itself. Keras 2 hands nothing on. Measured with Keras 3.15; keras/src/layers/layer.py: _resolve_and_populate_arg.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bninspect.formats.keras import call_order
from bninspect.formats.keras.config_node import ConfigNode
from bninspect.formats.keras.norm_config import TrainingCall, hard_wired

_AUGMENTING = (
    "AugMix AutoContrast CenterCrop ContrastLimitedAdaptiveHistogramEqualization CutMix Equalization"
    " MaxNumBoundingBoxes MixUp Pipeline RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter"
    " RandomContrast RandomCrop RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale"
    " RandomHue RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSaturation RandomSharpness"
    " RandomShear RandomTranslation RandomZoom Resizing Solarization"
)
_INFERRING = (
    "AdditiveAttention AlphaDropout Attention ConvLSTM1D ConvLSTM2D ConvLSTM3D Dropout FlaxLayer GRU GRUCell"
    " GaussianDropout GaussianNoise JaxLayer LSTM LSTMCell RNN SimpleRNN SimpleRNNCell SpatialDropout1D"
    " SpatialDropout2D SpatialDropout3D SpectralNormalization StackedRNNCells TFSMLayer"
)
DEFAULTS: Mapping[str, bool] = {
    **dict.fromkeys(_AUGMENTING.split(), True),
    **dict.fromkeys(_INFERRING.split(), False),
}
"""What layers of Keras 3 take where nobody says `training`; all others have no default."""
_MODULE = "keras.layers"
_MODULES = (_MODULE, "keras.src.layers")


def contexts(root: ConfigNode) -> Mapping[tuple[str, ...], frozenset[TrainingCall]]:
    """Return the calls of every batch norm of a model that is called without `training`, by its path."""
    walk = _CallWalk()
    walk.enter(root)
    return {path: frozenset(found) for path, found in walk.found.items()}


@dataclass(eq=False)
class _CallWalk:
    training: bool | None = None
    """What was said last."""
    by: tuple[str, ...] = ()
    """The path of what said it."""
    found: dict[tuple[str, ...], set[TrainingCall]] = field(default_factory=dict)

    def enter(self, node: ConfigNode, *, given: bool | None = None) -> None:
        """Go through what a node calls; `given` is what it was given, which it gives to all of them."""
        if node.norm is not None:
            before = "" if node.path[: len(self.by)] == self.by else "/".join(self.by)
            self.found.setdefault(node.path, set()).add(TrainingCall(self.training, before))
        for child, entry, said in _called(node):
            value = given if given is not None else said
            if value is not None:
                self.training, self.by = value, child.path if given is None else self.by
            elif self.training is None and (default := _default(entry)) is not None:
                self.training, self.by = default, child.path
            self.enter(child, given=self.training)


def _called(node: ConfigNode) -> Iterator[tuple[ConfigNode, Mapping[str, Any], bool | None]]:
    """Yield what a node calls, its entry in the configuration, and the `training` that the call says."""
    entries = call_order.layers_in(node.config)
    children = {child.name: child for child in node.children}
    for name, call in list(call_order.calls(node.config)) or _as_listed(node, entries):
        child = children.get(name)
        if child is not None:
            said = hard_wired(call, second=bool(child.norm or child.children))
            yield child, entries.get(name, {}), said


def _as_listed(node: ConfigNode, entries: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield the calls within what is not a functional model, a Sequential for instance, in the order of the file."""
    for child in node.children:
        calls = entries.get(child.name, {}).get("inbound_nodes")
        yield from ((child.name, call) for call in (calls if isinstance(calls, list) and calls else [None]))


def _default(entry: Mapping[str, Any]) -> bool | None:
    of_keras = str(entry.get("module") or _MODULE).startswith(_MODULES) and not entry.get("registered_name")
    return DEFAULTS.get(str(entry.get("class_name"))) if of_keras else None
