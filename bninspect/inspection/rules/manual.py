"""The manual pages: what each finding means, why it matters, what to do about it. Made from the rules' docstrings."""

from __future__ import annotations

import difflib
import inspect
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from bninspect.errors import UsageError
from bninspect.inspection.rules import RULES
from bninspect.safe_text import printable

_WIDTH = 100

_OBSERVED = (
    """BN202: an output is NaN or infinite, or should be.

    The formula and the runtime do not both have a finite number there, so nothing can be compared, and NaN is never
    counted as agreement. Parameters or the input hold NaN, or an earlier layer overflowed.

    What to do: look at the rules BN101 and BN102 of the same layer, and at the layers before it.

    Severity: error.
    """,
    """BN301: the runtime computes something else than the formula with the stored parameters.

    At least one element differs by more than float arithmetic allows: the bound is derived from the order of
    operations and the precision of the kernel, for each element. The cause that is named is a reading of the same
    parameters under which every value is explained; where several fit, all are named.

    What to do: if the runtime is wrong, correct the convention that is named; `bninspect explain` shows the arithmetic.

    Severity: error.
    """,
    """BN304: the runtime loaded other parameters than the file holds.

    They were compared bit for bit, in the wider of both types. Weights were loaded by position into layers of another
    order, by name into renamed layers, or not at all, so that the layer kept its initial values.

    What to do: load the whole model instead of its weights, or compare the order of layers and arrays.

    Severity: error.
    """,
    """BN305: the runtime's layer has another setting than the file states.

    Its epsilon or its axis is not the stored one: it was built anew with defaults, or a loader read the configuration
    of another version.

    What to do: build the layer with the stored settings.

    Severity: error.
    """,
    """BN311: a training step computes something else than the formula with the moments of its batch.

    `verify --training` calls the model once with training=True. Mean and biased variance of the batch (divided by n,
    over all axes but that of the channels) must normalise it, whatever is stored; a layer that does not train must
    use its moving statistics. The bound holds for sums in any order.

    What to do: if the runtime is wrong, correct what is named as its cause: gradients depend on this output.

    Severity: error.
    """,
    """BN312: a training step stores another moving mean or variance than momentum and batch make of it.

    The new value must be momentum * old + (1 - momentum) * batch. Keras writes momentum 0.99 where torch writes 0.01.
    Which variance is averaged is a convention of the kernel: the biased one in Keras 3 and in the layers of tf_keras
    that are not fused, n/(n-1) times as much in its fused ones. None of this shows in the outputs of this model; it is
    what a model becomes that is trained further there.

    What to do: use one momentum and one estimator everywhere, or do not train the model further in this runtime.

    Source: measured with Keras 3.15 and tf_keras 2.21; tensorflow#55545.

    Severity: error.
    """,
    """BN313: a training step moves the statistics of a layer that does not train.

    With trainable=False, or when it is called with training=False, a layer must leave its moving mean and variance as
    they are, to the last bit. Otherwise a frozen model drifts away from what was verified.

    What to do: look for code that updates the statistics outside of the layer.

    Severity: error.
    """,
    """BN401: an export holds other numbers than folding this layer gives.

    A converter takes a batch norm into the weights and the bias of its neighbour, W*a and (b - mean)*a + beta, or
    leaves a*x + c. Its numbers are recomputed in float64 and must agree to a few units in the last place, quantised
    ones to half a step. If one of the known ways to get a fold wrong explains all of them, it is named: a bias that was
    dropped or not scaled, the wrong axis, another grouping, another epsilon.

    What to do: convert again with a converter that folds right, or leave the batch norm unfolded.

    Severity: error.
    """,
    """BN402: an export's numbers are right for this layer, and its output is not.

    What comes into the layer differs already: another preprocessing of the input, another padding, a missing or added
    activation. The layers before it agree, so that the place is between them and this one.

    What to do: look at what the export does between the last layer that agrees and this one.

    Severity: error.
    """,
    """BN403: a layer's output in the export differs because of an earlier layer.

    Its own numbers are right. It is listed so that every layer is accounted for; the layer named in the message is the
    one to look at.

    What to do: mend the earlier layer.

    Severity: error.
    """,
    """BN404: an export folded this layer where it must not be folded.

    The numbers are those of a right fold, in a place where it computes something else: across an activation, into an
    operation whose result is used without the batch norm as well, into a padded convolution behind it, where zeros and
    not its shift are beyond the border, or a second time.

    What to do: convert again with a converter that looks at what is between the two operations.

    Severity: error.
    """,
    """BN410: the export is not of this model.

    None of the batch norms is in it, and its weights have nothing in common with what they should be. It was made from
    another training run, another checkpoint or another model.

    What to do: convert this model again, or find the model that the export was made from.

    Severity: error.
    """,
    """BN411: an output of the export is not that of the model.

    Both got the same input. If every batch norm is right the difference arises behind the last one, or only with the
    runtime's default optimisation, as the message says.

    What to do: look at what comes behind the last layer that agrees.

    Severity: error.
    """,
    """BN501: the stored statistics are not those of the data.

    `drift` runs the model in inference mode on data, and takes the mean and the variance of what arrives at each batch
    norm. In at least one channel they are off by more than accident (standard errors, all channels considered) and by
    more than a tolerance: a mean by so many stored deviations, a variance by so much of its logarithm. The layer is the
    first that differs. If a change of the input brings the statistics back, it is named: the data is prepared in
    another way than that of the training was.

    What to do: prepare the data as the message says. Where no change explains it, the data is of another kind, or the
    statistics lag behind the weights (weights that were still moving, averaged, pruned or fine-tuned): then
    `bninspect recalibrate` computes them anew.

    Severity: error.
    """,
    """BN502: the stored statistics are not those of the data, behind a layer where that is so already.

    What arrives here has gone through a layer that differs. Nothing can be said of this layer by itself.

    What to do: look at the layer that is named by BN501.

    Severity: note.
    """,
    """BN503: the stored statistics are a little off.

    By more than accident, and by less than the tolerance. It is what training leaves: augmentation and dropout, which
    inference does not have, weights that moved until the end, and what a net has learnt by heart of its training data.

    What to do: nothing; `--max-effect` sets the tolerance.

    Severity: note.
    """,
)
"""Pages of the findings that comparing with a runtime with an export or with data gives."""


@dataclass(frozen=True)
class Page:
    """The manual page of one finding."""

    code: str
    title: str
    paragraphs: tuple[str, ...]

    @property
    def text(self) -> str:
        """The page for a terminal."""
        wrapped = [textwrap.fill(paragraph, _WIDTH) for paragraph in self.paragraphs]
        return "\n\n".join([f"{self.code}: {self.title}", *wrapped]) + "\n"


@cache
def pages() -> Mapping[str, Page]:
    """Return all pages by code, in their order."""
    texts = [*(rule.__doc__ or "" for rule in RULES.values()), *_OBSERVED]
    return MappingProxyType({page.code: page for page in map(_page, texts)})


def page(code: str) -> Page:
    """Return the page of one code, in any case.

    Raises:
        UsageError: there is no such rule.
    """
    found = pages().get(code.strip().upper())
    if found is None:
        near = difflib.get_close_matches(code.upper(), pages(), n=1)
        raise UsageError(
            f"no rule {printable(code)}",
            hint=f"bninspect rule {near[0]}" if near else "bninspect rule lists them",
        )
    return found


def require(beginnings: Iterable[str]) -> None:
    """Raise UsageError unless each text is the code of a rule or its beginning: a typo must not loosen a gate."""
    for one in beginnings:
        if not one or not any(code.startswith(one) for code in pages()):
            near = difflib.get_close_matches(one.upper(), pages(), n=1)
            raise UsageError(
                f"no rule begins with '{printable(one)}'",
                why="rules are chosen by code, such as BN113, or by its beginning, such as BN1",
                hint=f"did you mean {near[0]}?" if near else "bninspect rule lists them",
            )


def markdown() -> str:
    """Return the whole manual as Markdown, as `docs/rules.md` holds it."""
    parts = ["# Rules", "What `bninspect` may find. Made from the rules' docstrings: `bninspect rule --markdown`."]
    for one in pages().values():
        parts += [f"## {one.code}: {one.title}", *one.paragraphs]
    return "\n\n".join(parts) + "\n"


def _page(docstring: str) -> Page:
    first, *rest = inspect.cleandoc(docstring).split("\n\n")
    code, _, title = first.partition(": ")
    return Page(code, title.rstrip("."), tuple(" ".join(paragraph.split()) for paragraph in rest))
