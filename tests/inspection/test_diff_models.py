"""Which layers of two models belong together, and what became of each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.layers import frozen, layer
from hypothesis import given, settings
from hypothesis import strategies as st

from bninspect import formats
from bninspect.inspection.diff_layers import LayerDifference, Verdict, difference, same_map
from bninspect.inspection.diff_models import Difference, diff
from bninspect.records import BatchNorm, Checkpoint, Statistics, Unread, codec
from bninspect.reports import Looks, json_document
from bninspect.reports.text import diff as difference_text


def model(*layers: BatchNorm, path: str = "a.h5") -> Checkpoint:
    return Checkpoint(path, "keras-h5", "", layers)


def wide(name: str = "bn", channels: int = 16, seed: int = 0, **changes: Any) -> BatchNorm:
    random = np.random.default_rng(seed)
    parameters = {
        "gamma": frozen(random.uniform(0.5, 2, channels)),
        "beta": frozen(random.normal(size=channels)),
        "moving_mean": frozen(random.normal(size=channels)),
        "moving_variance": frozen(random.uniform(0.1, 3, channels)),
    }
    return layer(name, **{**parameters, **changes})


def compared(before: BatchNorm, after: BatchNorm) -> LayerDifference:
    return difference(before, after, "name")


def test_equal_is_bit_for_bit_in_whatever_type() -> None:
    assert compared(wide(), wide()).verdict is Verdict.EQUAL
    nan = wide(beta=frozen([np.nan] * 16))
    assert compared(nan, nan).verdict is Verdict.EQUAL
    doubled: dict[str, Any] = {name: array.astype(np.float64) for name, array in wide().arrays.items()}
    assert compared(wide(), wide(dtype="float64", **doubled)).verdict is Verdict.EQUAL
    one_bit = wide().arrays["gamma"].copy()
    one_bit[3] = np.nextafter(one_bit[3], np.float32(9))
    found = compared(wide(), wide(beta=np.array(one_bit)))
    assert found.verdict is Verdict.CHANGED
    assert found.parameters["beta"].count == 16


def test_the_largest_change_and_its_channel() -> None:
    before = wide(gamma=frozen([1] * 16))
    after = wide(gamma=frozen([1, 1.5, 1, 0.25] + [1] * 12))
    change = compared(before, after).parameters["gamma"]
    assert (change.count, change.channel, change.before, change.after, change.largest) == (2, 3, 1.0, 0.25, 0.75)
    assert compared(before, after).reasons == ("gamma changed, the rest did not",)


def folded(of: BatchNorm, **changes: Any) -> BatchNorm:
    """Fold by hand, in float32."""
    a = of.arrays
    scale = a["gamma"] / np.sqrt(a["moving_variance"] + np.float32(of.epsilon or 0))
    shift = a["beta"] - a["moving_mean"] * scale
    return replace(of, gamma=scale, beta=shift, **changes)


def test_a_folded_layer_maps_x_alike() -> None:
    zero, one = frozen([0] * 16), frozen([1] * 16)
    found = compared(wide(), folded(wide(), moving_mean=zero, moving_variance=one, epsilon=0.0))
    assert found.verdict is Verdict.SAME_MAP
    assert found.reasons[0] == "mean and variance are folded into gamma and beta now"
    detectron = folded(wide(), moving_mean=zero, moving_variance=frozen([1 - 1e-5] * 16), epsilon=1e-5)
    assert compared(wide(), detectron).verdict is Verdict.SAME_MAP
    converter = folded(wide(), moving_mean=None, moving_variance=None, epsilon=None, statistics=Statistics.FOLDED)
    assert compared(wide(), converter).verdict is Verdict.SAME_MAP
    # A loader that keeps epsilon beside a variance of 1 is off by 1 / sqrt(1.001).
    assert compared(wide(), folded(wide(), moving_mean=zero, moving_variance=one)).verdict is Verdict.CHANGED


@pytest.mark.parametrize(("steps", "alike"), [(7, True), (9, False)])
def test_maps_are_alike_within_eight_roundings_of_each(steps: int, alike: bool) -> None:
    # A step of float32 above 1 is 2^-23, two units of rounding: 16 units, eight of each layer, are 8 steps.
    plain: dict[str, Any] = {"beta": None, "moving_mean": frozen([0] * 16)}
    before = wide(**plain, gamma=frozen([1] * 16))
    assert same_map(before, wide(**plain, gamma=frozen([1 + steps * 2**-23] * 16))) is alike


def test_another_epsilon_is_a_change_where_it_is_felt() -> None:
    far = wide(moving_variance=frozen([3e5] * 16))
    found = compared(far, replace(far, epsilon=1e-5))
    assert found.verdict is Verdict.SAME_MAP
    assert found.reasons == ("epsilon 0.001 became 1e-05, which no channel feels",)
    found = compared(wide(), wide(epsilon=1e-5))
    assert found.verdict is Verdict.CHANGED
    assert found.reasons == ("epsilon 0.001 became 1e-05",)
    assert found.parameters == {}


def test_momentum_is_no_change_and_is_said() -> None:
    found = compared(wide(), wide(momentum=0.9))
    assert found.verdict is Verdict.EQUAL
    assert found.settings == {"momentum": (0.99, 0.9)}


def test_statistics_of_the_batch_are_a_change() -> None:
    found = compared(wide(), wide(statistics=Statistics.BATCH))
    assert found.verdict is Verdict.CHANGED
    assert found.reasons == ("moving statistics became batch statistics",)


@pytest.mark.parametrize(
    ("before", "after", "name", "verdict"),
    [
        ((-1,), (1,), "keras-h5", Verdict.EQUAL),  # may be the same one: nobody knows the rank
        ((3,), (1,), "keras-h5", Verdict.CHANGED),
        ((-1,), (-2,), "keras-h5", Verdict.CHANGED),
        ((1,), (3,), "onnx", Verdict.EQUAL),  # another format orders the axes anew
        ((1,), None, "keras-h5", Verdict.EQUAL),
    ],
)
def test_another_axis_is_a_change(
    before: tuple[int, ...] | None, after: tuple[int, ...] | None, name: str, verdict: Verdict
) -> None:
    other = replace(model(wide(axis=after)), format=name)
    (found,) = diff(model(wide(axis=before)), other).layers
    assert found.verdict is verdict
    if verdict is Verdict.CHANGED:
        assert before is not None
        assert after is not None
        assert found.reasons == (f"axis {before[0]} became {after[0]}",)


def test_a_gamma_of_ones_may_be_left_out() -> None:
    found = compared(wide(gamma=frozen([1] * 16)), wide(gamma=None))
    assert found.verdict is Verdict.SAME_MAP
    assert found.reasons == ("gamma is 1 in one file, and left out in the other",)
    assert compared(wide(), wide(gamma=None)).reasons == ("gamma left out",)


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (16 / 15, "n/(n-1) for n = 16"),
        (1023 / 1024, "(n-1)/n for n = 1024"),
        (999.5, "multiplied by 999.5 in every channel"),
    ],
)
def test_a_common_factor_between_variances_is_named(factor: float, said: str) -> None:
    variance = wide().arrays["moving_variance"]
    found = compared(wide(), wide(moving_variance=variance * np.float32(factor)))
    assert len(found.reasons) == 1
    assert said in found.reasons[0]


@given(st.integers(2, 1000), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_any_small_n_is_found(n: int, seed: int) -> None:
    variance = np.random.default_rng(seed).uniform(0.1, 3, 64).astype(np.float32)
    corrected = (variance.astype(float) * n / (n - 1)).astype(np.float32)
    before = wide(channels=64, moving_variance=variance)
    (reason,) = compared(before, replace(before, moving_variance=corrected)).reasons
    assert reason.endswith(f"which is n/(n-1) for n = {n}")


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_rounded_parameters_are_named(kind: str) -> None:
    def narrow(array: Any) -> Any:
        if kind == "float16":
            return array.astype(np.float16)
        fraction, exponent = np.frexp(array.astype(np.float64))
        return np.ldexp(np.rint(fraction * 256) / 256, exponent).astype(np.float32)

    rounded: dict[str, Any] = {name: narrow(array) for name, array in wide().arrays.items()}
    reasons = (f"the parameters are rounded to {kind}",)
    # Where the file says that its parameters have 8 or 11 digits, more cannot be asked of them.
    stated, silent = (compared(wide(), wide(dtype=dtype, **rounded)) for dtype in (kind, "float32"))
    assert (stated.verdict, stated.reasons) == (Verdict.SAME_MAP, reasons)
    assert (silent.verdict, silent.reasons) == (Verdict.CHANGED, reasons)


def test_exchanged_arrays_and_channels_are_named() -> None:
    a = wide().arrays
    swapped = wide(gamma=a["beta"], beta=a["gamma"])
    assert compared(wide(), swapped).reasons == ("arrays exchanged: gamma holds beta, beta holds gamma",)
    turned: dict[str, Any] = {name: array[::-1] for name, array in a.items()}
    reversed_ = wide(**turned)
    (reason,) = compared(wide(), reversed_).reasons
    assert reason == "the channels are in another order: channel 0 holds what channel 15 held"


def test_layers_are_matched_by_name_first() -> None:
    found = diff(model(wide("a"), wide("b", seed=1)), model(wide("b"), wide("a", seed=1), path="b.h5"))
    assert [(one.before, one.after, one.matched_by) for one in found.layers] == [("b", "b", "name"), ("a", "a", "name")]
    assert [one.reasons for one in found.layers] == [
        ("it holds the parameters that a held",),
        ("it holds the parameters that b held",),
    ]
    assert found.exit_code == 1


def test_renamed_layers_are_matched_by_their_parameters_and_then_by_order() -> None:
    before = model(wide("a"), wide("b", seed=1), wide("c", seed=2), wide("d", 8))
    after = model(wide("y", seed=1), wide("x"), wide("w", seed=7), wide("z", 8, seed=9))
    found = diff(before, after)
    assert [(one.before, one.after, one.matched_by, one.verdict) for one in found.layers] == [
        ("b", "y", "parameters", Verdict.EQUAL),
        ("a", "x", "parameters", Verdict.EQUAL),
        ("c", "w", "order", Verdict.CHANGED),
        ("d", "z", "order", Verdict.CHANGED),
    ]
    renamed = folded(wide("q"), moving_mean=frozen([0] * 16), moving_variance=frozen([1] * 16), epsilon=0.0)
    (one,) = diff(model(wide("p")), model(renamed)).layers
    assert (one.matched_by, one.verdict) == ("parameters", Verdict.SAME_MAP)


def test_added_and_removed_layers_are_changes() -> None:
    found = diff(model(wide("a"), wide("b", 8)), model(wide("a"), wide("c", 4)))
    assert [(one.before, one.after, one.verdict) for one in found.layers] == [
        ("a", "a", Verdict.EQUAL),
        (None, "c", Verdict.ADDED),
        ("b", None, Verdict.REMOVED),
    ]
    assert found.exit_code == 1
    assert diff(model(wide("a")), model(wide("a"))).exit_code == 0


def test_another_width_is_said() -> None:
    (one,) = diff(model(wide("a")), model(wide("a", 8))).layers
    assert one.reasons == ("16 channels became 8",)


def test_the_screen_and_the_document() -> None:
    sound, changed = wide("same"), wide("n\n", gamma=frozen([1] * 16))
    found = diff(model(sound, changed), model(sound, replace(changed, gamma=frozen([2] + [1] * 15)), path="b\x1b.h5"))
    text = difference_text.render(found, Looks()).splitlines()
    assert text == [
        "changed   n\\x0a  16 channels",
        "          gamma changed, the rest did not",
        "          gamma: 1 of 16 values differ, largest 1 in channel 0: 1 became 2",
        "CHANGED a.h5 -> b\\x1b.h5: 2 layers, 1 equal, 1 changed; exit 1: the parameters are not the same",
    ]
    assert "equal     same  16 channels" in difference_text.render(found, Looks(verbosity=1))
    assert len(difference_text.render(found, Looks(verbosity=-1)).splitlines()) == 2
    document = json.loads(json_document.answer(found))
    del document["tool"]
    assert codec.decode(Difference, document) == found


def unstated(name: str = "bn", **changes: Any) -> BatchNorm:
    """Return a layer of a file without a configuration."""
    return wide(name, epsilon=None, epsilon_source=None, axis=None, **changes)


def test_equal_but_for_an_epsilon_that_one_file_does_not_state_is_open() -> None:
    for before, after, lacking in ((wide(), unstated(), "B"), (unstated(), wide(), "A")):
        found = diff(model(before), model(after))
        assert (found.exit_code, found.layers[0].verdict) == (3, Verdict.UNSTATED)
        text = difference_text.render(found, Looks())
        assert text.splitlines()[-1].startswith("OPEN ")
        assert f"equal but for what is not stated: epsilon is 0.001 in {'A' if lacking == 'B' else 'B'}" in text
        assert "--epsilon 0.001 if it is the same" in text
    changed = diff(model(wide()), model(unstated(gamma=frozen([1] * 16))))
    assert (changed.exit_code, changed.layers[0].verdict) == (1, Verdict.CHANGED)


def test_a_fold_of_a_layer_without_epsilon_is_open() -> None:
    converter = folded(wide(), moving_mean=None, moving_variance=None, epsilon=None, statistics=Statistics.FOLDED)
    assert diff(model(wide()), model(converter)).exit_code == 0
    found = diff(model(unstated()), model(converter))
    assert (found.exit_code, found.layers[0].verdict) == (3, Verdict.UNSTATED)
    assert difference_text.render(found, Looks()).splitlines()[2] == "hint      --epsilon VALUE supplies it"


def test_calls_that_were_not_read_leave_it_open() -> None:
    hidden = replace(model(wide()), unread=(Unread("the loop", 2, "its body is not read"),))
    for before, after in ((hidden, model(wide())), (model(wide()), hidden)):
        found = diff(before, after)
        assert found.exit_code == 3
        text = difference_text.render(found, Looks())
        assert "2 more calls of batch norm in the loop, not read: its body is not read" in text


def test_what_neither_file_states_is_a_note() -> None:
    found = diff(model(unstated()), model(unstated()))
    assert (found.exit_code, found.epsilon_not_compared) == (0, 1)
    assert "epsilon was not compared in 1 layer: neither file states it" in difference_text.render(found, Looks())


def test_the_mode_and_the_axis_of_a_file_without_a_graph_are_notes() -> None:
    supplied = unstated(statistics=Statistics.MOVING)
    supplied = replace(supplied, epsilon=1e-3, epsilon_source="--epsilon")
    for named, said in ((wide(statistics=Statistics.BATCH), "batch statistics"), (wide(wired=True), "BN124")):
        found = diff(model(named), model(supplied))
        assert (found.exit_code, found.layers[0].verdict) == (0, Verdict.EQUAL)
        text = difference_text.render(found, Looks())
        assert "the mode was not compared in 1 layer: B does not state it" in text
        assert said in text
        assert "the axis was not compared in 1 layer" in text


def test_hard_wired_training_is_a_change() -> None:
    found = compared(wide(), wide(wired=True))
    assert found.verdict is Verdict.CHANGED
    assert found.reasons == (
        "training=True is now hard-wired (BN124): model(x) and exports normalise by the batch's own",
    )
    assert "no longer hard-wired" in compared(wide(wired=True), wide()).reasons[0]


def test_an_epsilon_in_float32_is_the_same_number() -> None:
    assert compared(wide(), wide(epsilon=float(np.float32(1e-3)))).settings == {}


def test_the_array_that_may_be_gamma_or_beta_is_compared() -> None:
    def three(values: Any) -> BatchNorm:
        return wide(gamma=None, beta=None, undecided=frozen(values))

    ones = [1.0] * 16
    assert compared(three(ones), three(ones)).verdict is Verdict.EQUAL
    assert compared(three(ones), three([2.0] * 16)).verdict is Verdict.CHANGED
    assert compared(three(ones), wide(gamma=frozen(ones), beta=None)).verdict is Verdict.EQUAL


def shifted(array: Any, by: int, edge: float = 0.5) -> Any:
    moved = np.roll(array, by)
    moved[: max(by, 0)] = edge
    moved[16 + min(by, 0) :] = edge
    return moved


@pytest.mark.parametrize(("by", "said"), [(1, "read 1 value too early"), (-2, "read 2 values too late")])
def test_arrays_that_are_shifted_are_named(by: int, said: str) -> None:
    moved: dict[str, Any] = {name: shifted(array, by) for name, array in wide().arrays.items()}
    (reason,) = compared(wide(), wide(**moved)).reasons
    assert reason.startswith(f"every array is shifted by {by:+d}")
    assert said in reason
    moved["beta"] = wide().arrays["beta"] + 1
    assert not any("shifted" in one for one in compared(wide(), wide(**moved)).reasons)


@pytest.mark.parametrize(("sign", "word"), [(-1, "lower"), (1, "higher")])
def test_a_variance_that_epsilon_was_added_to_is_named(sign: int, word: str) -> None:
    variance = (wide().arrays["moving_variance"].astype(np.float64) + sign * 1e-3).astype(np.float32)
    found = compared(wide(), wide(moving_variance=variance))
    assert found.reasons == (f"moving_variance {word} by 0.001, which is epsilon, in every channel",)
    variance[3] += np.float32(1e-5)
    assert not any("which is epsilon" in one for one in compared(wide(), wide(moving_variance=variance)).reasons)


def test_a_clipped_gamma_is_named() -> None:
    gamma = np.linspace(-1, 2, 16).astype(np.float32)
    found = compared(wide(gamma=gamma), wide(gamma=np.maximum(gamma, 0)))
    assert found.reasons == ("gamma clipped at 0: it was negative in 5 of 16 channels",)


@pytest.mark.parametrize(("kept", "place"), [(slice(None, -1), "last"), (slice(1, None), "first")])
def test_a_missing_channel_is_named(kept: slice, place: str) -> None:
    fewer: dict[str, Any] = {name: array[kept] for name, array in wide().arrays.items()}
    assert compared(wide(), wide(**fewer)).reasons == (f"16 channels became 15: the {place} channel missing",)
    assert compared(wide(**fewer), wide()).reasons == (f"15 channels became 16: the {place} channel added",)
    fewer["beta"] = fewer["beta"] + 1
    assert compared(wide(), wide(**fewer)).reasons == ("16 channels became 15",)


def test_arrays_that_another_layer_held_are_named() -> None:
    first, second = wide("a"), wide("b", seed=1)
    mixed = replace(second, gamma=first.moving_variance)
    found = diff(model(first, second), model(first, mixed))
    (reason,) = found.layers[1].reasons
    assert reason.startswith("values of another layer: gamma holds moving_variance of a")
    # Ones are nobody's: a layer before training holds them everywhere.
    plain = replace(second, gamma=frozen([0] * 16))
    zeros = replace(first, beta=frozen([0] * 16))
    assert not any("another layer" in one for one in diff(model(zeros, second), model(zeros, plain)).layers[1].reasons)


def test_the_same_model_in_other_formats(sample_models: Path, shared_models: Path) -> None:
    whole = formats.read(sample_models / "keras2_digits.h5")
    archive = diff(whole, formats.read(sample_models / "keras2_digits.keras"))
    assert {layer.verdict for layer in archive.layers} == {Verdict.EQUAL}
    # A file of weights does not state its epsilon: that it is the same is not known.
    writers = shared_models / "writers" / "tf115"
    for model_file, weights in (
        (whole, sample_models / "keras2_digits_weights.h5"),
        (formats.read(writers / "nested.h5"), writers / "nested_w.h5"),
    ):
        compared_with_weights = diff(model_file, formats.read(weights))
        assert {layer.verdict for layer in compared_with_weights.layers} == {Verdict.UNSTATED}
        assert compared_with_weights.exit_code == 3
    broken = diff(formats.read(sample_models / "keras3_digits.h5"), formats.read(sample_models / "broken_nan.h5"))
    assert broken.exit_code == 1
    assert broken.counts == {Verdict.EQUAL: 3, Verdict.CHANGED: 1}


def test_epsilon_that_moved_out_of_the_root_is_a_change() -> None:
    """The same numbers in both files, and another function: sqrt(variance) + epsilon."""
    outside = replace(wide(), outside_root=True)
    assert compared(wide(), outside).verdict is Verdict.CHANGED
    assert compared(wide(), outside).reasons[0] == "epsilon went outside the square root"
    assert compared(outside, wide()).reasons[0] == "epsilon went back inside the square root"
    assert compared(outside, outside).verdict is Verdict.EQUAL
