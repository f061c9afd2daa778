"""A model against a file where one of the two holds weights alone: the numbers are compared, and nothing is run.

Evidence of the grade `numbers`: each batch norm, and the kernel beside it by name, has its numbers in the other file,
as it is or folded, within the derived bound. Strides, padding, activations and what feeds what are not in such a file
and were not compared: that is enough only for who says so (`--accept numbers`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bninspect import formats
from bninspect.equivalence import by_name, measuring
from bninspect.equivalence.diagnosis.diagnose import ALIKE, LEFT_OUT, Diagnosis, diagnose
from bninspect.equivalence.diagnosis.kernels import of_kernels
from bninspect.equivalence.judgement.case import FOLDED, NODE, PAIR, Judged, Sentence, WrongKernel
from bninspect.equivalence.judgement.layers import explain, off
from bninspect.equivalence.pairing import source_norms
from bninspect.equivalence.pairing.pair import pair
from bninspect.equivalence.pairing.places import Pairing
from bninspect.equivalence.pairing.source_norms import SourceNorm
from bninspect.formats.named_kernels import NamedKernel
from bninspect.records import BatchNorm, Checkpoint, Counterpart, Evidence, LayerStatus
from bninspect.records.graph import BATCH_NORM, Network, Node


@dataclass(frozen=True, eq=False)
class Held:
    """One of two files: its kernels and batch norms, and what feeds what as far as that is known."""

    network: Network
    kernels: tuple[NamedKernel, ...] = ()
    """Those of a file that holds weights alone, in all their readings."""
    layers: tuple[BatchNorm, ...] = ()

    def read(self, other: Collection[str]) -> Held:
        """Return the same file with some kernels in their other reading; a graph says what they are."""
        return replace(self, network=by_name.network(self.kernels, self.layers, other)) if self.kernels else self


def of_weights(checkpoint: Checkpoint) -> Held:
    """Read a file that holds weights alone. Raises UnreadableFile."""
    kernels = formats.read_kernels(Path(checkpoint.path))
    return Held(by_name.network(kernels, checkpoint.layers), kernels, checkpoint.layers)


def judge(source: Held, export: Held, known: Mapping[str, BatchNorm], accept: Sequence[str]) -> Sentence:
    """Return the verdict on a file from numbers alone.

    Args:
        source: the model.
        export: the other file.
        known: the model's layers whose scale and shift are known, by name.
        accept: grades of evidence that are enough.
    """
    source, export, norms, paired = _paired(source, export, known)
    diagnoses = {
        norm: diagnose(norm, paired, [one for one in norms if one.layer is not norm.layer], export.network)
        for norm in paired.missing
    }
    enough = Evidence.NUMBERS in accept
    judged = [
        _missing(norm, diagnoses[norm]) if norm in diagnoses else _found(norm, paired, enough=enough) for norm in norms
    ]
    every = [*diagnoses.values()]
    same = bool(paired.places) or not every or any(one.recognised for one in every if one.node)
    taken = {id(one.node) for one in diagnoses.values() if one.node is not None}
    lost = of_kernels(paired, taken)
    inside = {norm.kernel for norm in diagnoses} | _beside_unknown(source.network, known)
    wrong = [one for operation, found in lost.items() if operation not in inside for one in _wrong(operation, found)]
    told = {one.name for one in wrong}
    nowhere = [one.name for one in lost if one.name not in told and one not in inside]
    return Sentence(
        tuple(judged),
        same,
        tuple(wrong) if same else (),
        open=tuple(f"{name}: its weights are nowhere in the export" for name in nowhere) if same and not wrong else (),
        notes=("only numbers were compared: nothing was run, and what feeds what is not known",),
    )


def _beside_unknown(network: Network, known: Collection[str]) -> set[Node | None]:
    """Return the kernels in front of batch norms whose scale is not known: they may be folded, with any numbers."""
    producers = network.producers()
    norms = (node for node in network.nodes if node.operation == BATCH_NORM and node.layer not in known)
    return {producers.get(node.inputs[0]) for node in norms}


def _paired(
    source: Held, export: Held, known: Mapping[str, BatchNorm]
) -> tuple[Held, Held, tuple[SourceNorm, ...], Pairing]:
    """Pair two files; kernels of the one that fit nothing are read in their other way, if they have one."""
    found = _pair(source, export, known)
    lost, left = _unheld(found[1])
    if not (lost and source.kernels) and not (left and export.kernels):
        return source, export, *found
    turned = (source.read(lost), export.read(left))
    still = _unheld(_pair(*turned, known)[1])
    # What fits nothing in that way either is what it was first taken for.
    source, export = source.read(lost - still[0]), export.read(left - still[1])
    return source, export, *_pair(source, export, known)


def _pair(source: Held, export: Held, known: Mapping[str, BatchNorm]) -> tuple[tuple[SourceNorm, ...], Pairing]:
    norms = source_norms.norms(source.network, known)
    return norms, pair(norms, source.network, export.network)


def _unheld(paired: Pairing) -> tuple[set[str], set[str]]:
    """Return the names of the kernels of the model, and of the other file, that hold nothing of the other."""
    lost = {one.name for one in paired.lost} | {one.kernel.name for one in paired.missing if one.kernel is not None}
    return lost, {one.name for one in paired.kernels}


def _found(norm: SourceNorm, paired: Pairing, *, enough: bool) -> Judged:
    match = paired.matches[norm]
    assert match.node.kernel is not None  # noqa: S101 - only such nodes are matched
    compared = measuring.of_kernel(match.expected, match.node.kernel)
    how = FOLDED if not match.node.layer else PAIR if match.node.folded else NODE
    status = LayerStatus.VERIFIED if enough else LayerStatus.UNVERIFIED
    why = "" if enough else "its numbers are right, and nothing was run; --accept numbers makes that enough"
    return Judged(norm, Counterpart(status, None, how, match.node.place, why, comparisons=compared), wrong=False)


def _missing(norm: SourceNorm, found: Diagnosis) -> Judged:
    causes = tuple(one for one in found.found if one.name != LEFT_OUT)
    place = "" if found.node is None else found.node.place
    if causes:
        explained = explain(causes, found.tried, found.comparisons)
        told = Counterpart(
            LayerStatus.MISMATCH, None, "", place, explained.sentence, "", found.comparisons, explanation=explained
        )
        return Judged(norm, told, wrong=True)
    if found.node is not None and found.likeness >= ALIKE and found.comparisons:
        sentence = "the nearest numbers in the export are different"
        return Judged(
            norm, Counterpart(LayerStatus.MISMATCH, None, "", place, sentence, "", found.comparisons), wrong=True
        )
    beside = f", with {norm.kernel.name} beside it or alone" if norm.kernel is not None else ""
    sentence = f"its numbers are nowhere in the export{beside}"
    return Judged(norm, Counterpart(LayerStatus.UNVERIFIED, None, "", sentence=sentence), wrong=False)


def _wrong(operation: Node, found: Diagnosis) -> Iterator[WrongKernel]:
    """Yield that a kernel is another one, if the most similar one is beyond doubt the same kernel."""
    if found.node is not None and found.recognised:
        why = "; ".join(one.sentence for one in found.found) or off(found)
        yield WrongKernel(operation.name, why, found.node.place, found.comparisons)
