"""A model against an export that can be run: the numbers are paired, and both are run on the same input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from bninspect.equivalence.diagnosis.diagnose import Diagnosis, diagnose
from bninspect.equivalence.diagnosis.kernels import of_kernels
from bninspect.equivalence.evidence import rounds, samples
from bninspect.equivalence.evidence.hidden import Lost
from bninspect.equivalence.evidence.one_round import see
from bninspect.equivalence.evidence.rounds import Round, Subject
from bninspect.equivalence.judgement import claims
from bninspect.equivalence.judgement.case import Case, Sentence
from bninspect.equivalence.judgement.judge import judge
from bninspect.equivalence.notes import of_export, of_inputs, of_precision
from bninspect.equivalence.pairing import added_numbers, rebiasing, source_norms
from bninspect.equivalence.pairing.fits import is_off_by_one_number
from bninspect.equivalence.pairing.pair import pair
from bninspect.equivalence.pairing.source_norms import known_layers
from bninspect.equivalence.running import Ran
from bninspect.equivalence.source import SourceRun
from bninspect.errors import RuntimeFailure
from bninspect.records import Array, Checkpoint
from bninspect.records.graph import Network, Node, leading_to
from bninspect.settings import Settings


def judge_run(found: SourceRun, ran: Ran, checkpoint: Checkpoint, settings: Settings) -> tuple[Sentence, Round | None]:
    """Return the verdict on the export, and what was seen of it."""
    if found.network is None:
        return Sentence((), same=True, open=(found.reason or "what the model computes cannot be seen",)), None
    export = _live(ran.network)
    norms = source_norms.norms(found.network, known_layers(checkpoint))
    paired = pair(norms, found.network, export)
    paired = added_numbers.completed(paired, found.network, export, partial(_shown, found))
    paired = rebiasing.completed(paired, norms, export)
    diagnoses = {
        norm: diagnose(norm, paired, [one for one in norms if one.layer is not norm.layer], export)
        for norm in paired.missing
    }
    taken = {id(one.node) for one in diagnoses.values() if one.node is not None}
    lost = of_kernels(paired, taken)
    seen, reason = None, f"the export was not run: {ran.reason}"
    if ran.session is not None:
        subject = Subject(
            found.network,
            export,
            ran.session,
            found.replay,
            found.forces,
            paired.places,
            settings.seed,
            found.outlines,
            _returned(found.network, found.outputs),
            found.data,
            (*_lost(lost), *(Lost(norm.call) for norm in paired.missing)),
        )
        try:
            seen = _seen(subject, ran, found)
        except RuntimeFailure as failure:
            reason = f"it could not be recomputed: {failure}"
    shown = found.replay is not None
    case = Case(norms, found.network, export, paired, diagnoses, lost, seen, reason, given=ran.given, replayed=shown)
    sentence = judge(case)
    cut = claims.of_data(seen.cut) if seen is not None and not ran.given else ""
    if cut:
        sentence = replace(sentence, condition=f"its ranges hold your data: of random input {cut}; --input DATA tells")
    notes = (*sentence.notes, *of_inputs(export), *of_export(paired, seen, taken), *of_precision(ran))
    return replace(sentence, notes=notes), seen


def _shown(found: SourceRun, labels: Sequence[str]) -> Mapping[str, Array]:
    """Return values of the source as it computes them, none if it cannot be run again."""
    try:
        return found.replay(None, {}, labels) if found.replay is not None else {}
    except RuntimeFailure:
        return {}


def _lost(found: Mapping[Node, Diagnosis]) -> Iterator[Lost]:
    for operation, one in found.items():
        yield Lost(operation, one.node is not None and is_off_by_one_number(one.node, operation))


def _returned(network: Network, outputs: Sequence[Array]) -> dict[str, Array]:
    """Return what came out of the source by label, nothing if some of it was not seen."""
    names = [one.name for one in network.outputs]
    return dict(zip(names, outputs, strict=True)) if len(names) == len(outputs) else {}


def _live(network: Network) -> Network:
    """Return a graph without the operations whose results nobody reads."""
    needed = set(map(id, leading_to((output.name for output in network.outputs), network)))
    return replace(network, nodes=tuple(node for node in network.nodes if id(node) in needed))


def _seen(subject: Subject, ran: Ran, found: SourceRun) -> Round:
    """Run both on the input at hand, and on other input while that might still show something."""
    seen = see(subject, ran.data, found.data)
    if seen.wrong or ran.given or not seen.is_open or found.replay is None:
        return seen
    for given, data in samples.further(ran.data, found.data, subject):
        seen = rounds.join(seen, see(subject, given, data, seen.hidden))
        if seen.wrong or not seen.is_open:
            break
    return seen
