"""What `explain` computes: the arithmetic of numbers, and verdicts on outputs that somebody's code gave."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.layers import frozen, layer
from helpers.wrong_kernels import KERNELS, Numbers, norm

from bninspect.causes import explanation
from bninspect.causes.given_text import numbers
from bninspect.errors import DamagedFile, UnreadableFile, UsageError
from bninspect.records import codec, explained
from bninspect.reports import Looks, json_document
from bninspect.reports.text import explain
from bninspect.verdicts.own_runtime import given_files

QUESTION = {"gamma": "1.0055743", "beta": "-0.016652612", "mean": "-0.089603029", "variance": "0.000436493"}


def loose(x: str | None, y: str | None = None, epsilon: float | None = 1e-3, **texts: str) -> explained.Explained:
    given: dict[str, Any] = {"gamma": None, "beta": None}
    given |= {name: numbers(text) for name, text in (texts or QUESTION).items()}
    return explanation.loose(
        **given,
        epsilon=epsilon,
        x=None if x is None else numbers(x),
        y=None if y is None else numbers(y, chosen=False, single=False),
    )


def text(found: explained.Explained, verbosity: int = 0) -> list[str]:
    return explain.render(explained.answer((found,)), Looks(verbosity=verbosity)).splitlines()


def test_the_published_question() -> None:
    found = loose("-0.077417567", "0.543057")
    (term,) = found.arithmetic
    assert term.expected == pytest.approx(0.30664642276945747, abs=1e-8)
    assert term.root == pytest.approx(np.sqrt(0.000436493 + 1e-3), rel=1e-7)
    assert term.ratio is not None
    assert term.ratio > 1e4
    assert not found.agrees
    assert explained.answer((found,)).exit_code == 1
    assert text(found) == [
        "DIFFER the numbers given  1 channel, epsilon 0.001",
        "by hand    1.005574 * (-0.07741757 - -0.08960303) / sqrt(0.000436493 + 0.001) + -0.01665261 = 0.3066464",
        "           sqrt(variance + epsilon) = 0.03790109, (x - mean) / that = 0.3215069",
        "given      0.543057: 0.236 apart, 91,000 times the limit",
        "cause      epsilon added outside the square root: sqrt(variance) + epsilon  (explains every value)",
    ]


def test_the_published_answer_matches() -> None:
    found = loose("-0.077417567", "0.30664611")
    assert found.agrees
    assert explained.answer((found,)).exit_code == 0
    assert text(found)[0] == "MATCH  the numbers given  1 channel, epsilon 0.001"
    assert "equal, 3.2e-07 apart" in text(found)[3]


def test_without_an_output_the_arithmetic_alone_is_shown() -> None:
    found = loose("-0.077417567")
    assert found.agrees
    assert found.explanation is None
    assert text(found)[-1].endswith("(x - mean) / that = 0.3215069")


def test_few_digits_are_said_to_be_few() -> None:
    found = loose("-0.077417567", "0.4")
    assert found.explanation is not None
    assert len(found.explanation.causes) > 1
    assert any("so few digits" in remark for remark in found.explanation.remarks)
    clear = loose("-0.077417567", "0.543057").explanation
    assert clear is not None
    assert clear.remarks == ()


def test_an_unknown_epsilon_is_found() -> None:
    found = loose("-0.077417567", "0.30664611", epsilon=None)
    assert found.agrees
    assert found.arithmetic == ()
    assert text(found)[1] == "cause      epsilon 0.001 (the default of Keras 3 and tf_keras)  (explains every value)"
    assert not loose("-0.077417567", "0.543057", epsilon=None).agrees


RANDOM = np.random.default_rng(3)
WIDE = Numbers(
    (RANDOM.uniform(0.5, 2, 12) * RANDOM.choice([-1, 1], 12)).astype(np.float32),
    RANDOM.normal(size=12).astype(np.float32),
    RANDOM.normal(size=12).astype(np.float32),
    (10 ** RANDOM.uniform(-4, 1, 12)).astype(np.float32),
    1e-3,
)
INPUTS = RANDOM.normal(size=(4, 5, 6, 12)).astype(np.float32)


@pytest.mark.parametrize("name", {name.partition("=")[0]: name for name in KERNELS}.values())
def test_without_epsilon_only_epsilon_is_free(name: str) -> None:
    unknown = layer(
        gamma=WIDE.gamma,
        beta=WIDE.beta,
        moving_mean=WIDE.mean,
        moving_variance=WIDE.variance,
        epsilon=None,
    )
    with np.errstate(all="ignore"):
        outputs = np.asarray(KERNELS[name](INPUTS, WIDE), np.float32)
    found = explanation.against(unknown, INPUTS, outputs, (3,))
    answer = explained.answer((found,))
    # Twice an epsilon that nobody knows is an epsilon.
    alone = name.startswith("epsilon=") or name == "epsilon-doubled"
    assert answer.exit_code == (0 if alone else 1)


@pytest.mark.parametrize(("epsilon", "code"), [(0.0, 0), (2e-3, 0), (0.5, 0), (-2e-5, 1), (-5e-5, 1)])
def test_an_epsilon_that_fits_is_not_negative(epsilon: float, code: int) -> None:
    unknown = layer(
        gamma=WIDE.gamma, beta=WIDE.beta, moving_mean=WIDE.mean, moving_variance=WIDE.variance, epsilon=None
    )
    outputs = WIDE.gamma * (INPUTS - WIDE.mean) / np.sqrt(WIDE.variance.astype(np.float64) + epsilon) + WIDE.beta
    found = explanation.against(unknown, INPUTS, outputs.astype(np.float32), (3,))
    assert explained.answer((found,)).exit_code == code


@pytest.mark.parametrize(("y", "code", "word"), [("0.3", 3, "OPEN"), ("0.30664611", 0, "MATCH"), ("0.2071", 3, "OPEN")])
def test_one_number_without_epsilon_may_leave_it_open(y: str, code: int, word: str) -> None:
    found = loose("-0.077417567", y, epsilon=None)
    assert explained.answer((found,)).exit_code == code
    lines = text(found)
    assert lines[0].startswith(word)
    assert (code == 3) == lines[1].startswith("undecided")


def test_several_channels_and_one_value_for_all_of_them() -> None:
    found = loose("1, 2, 3", gamma="2", mean="0.5,0.25,-1", variance="1,4,0.25", epsilon=0.0)
    assert [term.expected for term in found.arithmetic] == [1.0, 1.75, 16.0]
    assert [term.channel for term in found.arithmetic] == [0, 1, 2]
    found = loose(None, gamma="2", beta="1", mean="0.5,0.25,-1", variance="1,4,0.25", epsilon=0.0)
    assert [(one.scale, one.shift) for one in found.folded] == [(2, 0), (1, 0.75), (4, 5)]


def test_several_inputs_of_one_channel_show_the_worst_first() -> None:
    found = loose("1 2 3", "0.5 1.0 3", mean="0", variance="4", epsilon=0.0)
    assert [term.x for term in found.arithmetic] == [3, 1, 2]
    assert found.arithmetic[0].given == 3


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"x": None, "y": "1"}, "--y needs --x"),
        ({"x": "1 2", "y": "1"}, "--x has 2 numbers, --y has 1"),
        ({"x": "1 2", "mean": "1,2,3", "variance": "1"}, "--x has 2 numbers"),
        ({"x": "1", "mean": "1,2,3", "variance": "1,2"}, "--variance has 2 numbers"),
        ({"x": "1", "epsilon": None}, "nothing can be computed without epsilon"),
    ],
)
def test_numbers_that_do_not_belong_together(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        loose(**given)


def test_one_channel_of_a_layer() -> None:
    one = explanation.channel_of(layer(), 2)
    assert (one.name, one.channels, one.arrays["gamma"].tolist()) == ("bn, channel 2", 1, [2.0])
    found = explanation.typed_inputs(one, numbers("5"), None)
    assert found.arithmetic[0].expected == pytest.approx(2 * (5 - 3) / np.sqrt(4 + 1e-3) - 1, rel=1e-6)
    with pytest.raises(UsageError, match="channels 0 to 2, not 3"):
        explanation.channel_of(layer(), 3)


def test_scale_and_shift_of_the_first_channels() -> None:
    wide: dict[str, Any] = {name: np.resize(array, 20) for name, array in layer().arrays.items()}
    found = explanation.shown(layer(**wide))
    assert [one.channel for one in found.folded] == list(range(8))
    assert "           12 further channels (--channel K shows one)" in text(found)
    (one,) = explanation.shown(layer(), (1,)).folded
    assert one.scale == pytest.approx(-0.5 / np.sqrt(1.001))
    assert one.shift == pytest.approx(1.0 + 2 * one.scale)
    with pytest.raises(UsageError, match="channels 0 to 2"):
        explanation.shown(layer(), (3,))
    with pytest.raises(DamagedFile):
        explanation.shown(layer(moving_mean=None))


def call(epsilon: float = 1e-3, gamma: Any = None) -> tuple[Any, Any]:
    x = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    of = layer().arrays
    g = of["gamma"] if gamma is None else gamma
    return x, norm(x, g, of["beta"], of["moving_mean"], of["moving_variance"], epsilon)


def test_arrays_that_agree() -> None:
    found = explanation.against(layer(), *call(), (2,))
    assert found.agrees
    assert found.comparison is not None
    assert found.comparison.elements == 60
    assert re.fullmatch(r" {11}all 60 values are right, the worst at \d\d? % of the limit", text(found)[1])


def test_arrays_that_do_not_and_why() -> None:
    found = explanation.against(layer(), *call(gamma=1), (2,))
    assert not found.agrees
    assert found.explanation is not None
    assert [cause.name for cause in found.explanation.causes] == ["gamma-ignored"]
    lines = text(found)
    assert lines[0].startswith("DIFFER bn")
    assert re.fullmatch(r" {11}\d+ of 60 values are wrong, the worst by \d,\d00,000 times the limit", lines[1])
    assert lines[-1] == "cause      gamma ignored: 1 is used  (explains every value)"
    assert len(text(found, 1)) > len(lines)


@pytest.mark.parametrize("bad", [0.0, -7.0, 1e30])
def test_one_bad_value_among_many_has_no_cause(bad: float) -> None:
    x = np.random.default_rng(5).normal(size=(4, 10, 14, 3)).astype(np.float32)
    of = layer().arrays
    y = norm(x, of["gamma"], of["beta"], of["moving_mean"], of["moving_variance"], 1e-3)
    y[2, 3, 4, 1] = bad
    found = explanation.against(layer(), x, y, (3,))
    assert not found.agrees
    assert found.explanation is not None
    assert found.explanation.causes == ()
    assert found.explanation.remarks == (
        "1 value is off, at [2, 3, 4, 1], and the other 1,679 are right: no formula does that",
    )


def test_nan_is_no_agreement() -> None:
    x, y = call()
    y[0, 0, 0] = np.nan
    found = explanation.against(layer(), x, y, (2,))
    assert not found.agrees
    assert "1 of 60 values are wrong, or not finite" in text(found)[1]


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_outputs_of_other_types(dtype: str) -> None:
    x, y = call()
    assert explanation.against(layer(), x, y.astype(dtype), (2,)).agrees
    assert not explanation.against(layer(), x, (y * 1.01).astype(dtype), (2,)).agrees


def test_hand_written_code_in_float64_may_give_more_digits_than_a_kernel() -> None:
    x, _ = call()
    of = {name: array.astype(np.float64) for name, array in layer().arrays.items()}
    y = of["gamma"] * (x - of["moving_mean"]) / np.sqrt(of["moving_variance"] + 1e-3) + of["beta"]
    assert y.dtype == np.float64
    assert explanation.against(layer(), x, y, (2,)).agrees


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (np.ones((2, 3)), np.ones((3, 2)), r"the input has shape \(2, 3\), the output \(3, 2\)"),
        (np.ones((2, 4)), np.ones((2, 4)), "bn has 3 channels"),
        (np.ones((0, 3)), np.ones((0, 3)), "the input has shape"),
        (np.array([["a", "b", "c"]]), np.ones((1, 3)), "only numbers"),
    ],
)
def test_arrays_that_do_not_belong_together(x: Any, y: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        explanation.against(layer(), x, y, (1,))


@pytest.mark.parametrize(
    ("shape", "stated", "given", "axes"),
    [
        ((2, 5, 3), (-1,), (), (2,)),
        ((2, 3, 5), (-1,), (1,), (1,)),
        ((2, 3, 5, 5), None, (), (1,)),
        ((2, 5, 3), None, (), (2,)),
        ((3, 3), None, (), (1,)),
        ((3,), None, (), (0,)),
    ],
)
def test_the_axis_is_the_named_the_stated_or_the_only_one_that_fits(
    shape: tuple[int, ...], stated: tuple[int, ...] | None, given: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    assert given_files.axes(layer(axis=stated), np.ones(shape), given) == axes


@pytest.mark.parametrize(("shape", "given"), [((2, 3, 3), ()), ((2, 5), ()), ((2, 3), (2,))])
def test_an_axis_that_cannot_be_told_is_asked_for(shape: tuple[int, ...], given: tuple[int, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        given_files.axes(layer(axis=None), np.ones(shape), given)
    assert "--axis" in caught.value.hint


def test_files_with_an_array_for_each_layer(tmp_path: Path) -> None:
    x, y = call()
    layers = (layer("a"), layer("block/b", gamma=frozen([1, 2, 3])))
    np.savez(tmp_path / "x.npz", **{"a": x, "block/b": x})
    np.savez(tmp_path / "y.npz", **{"a": y, "block/b": y})
    a, b = given_files.explained(layers, tmp_path / "x.npz", tmp_path / "y.npz")
    assert a.agrees
    assert not b.agrees
    assert b.explanation is not None
    assert [cause.name for cause in b.explanation.causes] == ["gamma-of=a"]


def test_a_single_array_for_a_single_layer(tmp_path: Path) -> None:
    x, y = call()
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    (found,) = given_files.explained((layer(),), tmp_path / "x.npy", tmp_path / "y.npy")
    assert found.agrees
    with pytest.raises(UsageError, match="no layer is called ''"):
        given_files.explained((layer("a"), layer("b")), tmp_path / "x.npy", tmp_path / "y.npy")


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    x, y = call()
    layers = (layer("a"), layer("b"))
    np.savez(tmp_path / "x.npz", a=x, b=x)
    np.savez(tmp_path / "y.npz", a=y)
    with pytest.raises(UsageError, match="only the input has an array 'b'"):
        given_files.explained(layers, tmp_path / "x.npz", tmp_path / "y.npz")
    np.savez(tmp_path / "x.npz", c=x, a=x)
    np.savez(tmp_path / "y.npz", c=y, a=y)
    with pytest.raises(UsageError, match="no layer is called 'c'"):
        given_files.explained(layers, tmp_path / "x.npz", tmp_path / "y.npz")
    (tmp_path / "x.txt").write_text("1 2 3")
    with pytest.raises(UnreadableFile):
        given_files.explained(layers, tmp_path / "x.txt", tmp_path / "y.npz")


def test_the_answer_as_json() -> None:
    answer = explained.answer((loose("-0.077417567", "0.543057"),))
    document = json.loads(json_document.answer(answer))
    assert list(document)[:4] == ["tool", "schema_version", "command", "exit_code"]
    (cause,) = document["layers"][0]["explanation"]["causes"]
    assert cause["name"] == "epsilon-outside"
    del document["tool"]
    assert codec.decode(explained.Answer, document) == answer


@pytest.mark.parametrize("odd", [1e300, "signalling"])
def test_numbers_that_float32_has_not_are_judged_without_warnings(odd: float | str) -> None:
    x, y = call()
    if isinstance(odd, float):
        y = y.astype(np.float64)
        y.flat[0] = odd
    else:
        y = y.astype(np.float32)
        y.reshape(-1).view(np.uint32)[0] = 0x7F800001
    found = explanation.against(layer(), x, y, (2,))
    assert not found.agrees
    assert found.comparison is not None
    assert found.comparison.violations == 1
