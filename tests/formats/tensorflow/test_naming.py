"""Which variables belong together by their names, and what layers are called after them."""

from __future__ import annotations

import pytest

from bninspect.formats.tensorflow import scopes


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (["bn/gamma", "bn/beta", "bn/moving_mean", "bn/moving_variance"], "bn"),
        (["a/b/gamma", "a/b/part/moving_mean"], "a/b"),
        (["gamma", "pop_mean"], ""),
        (["x/gamma", "y/beta"], ""),
        ([], ""),
    ],
)
def test_scopes_that_variables_share(variables: list[str], expected: str) -> None:
    assert scopes.common_scope(variables) == expected


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("model/bn/batchnorm/add_1", "model/bn"),
        ("bn/FusedBatchNormV3", "bn"),
        ("FusedBatchNormV3_2", "FusedBatchNormV3_2"),
        ("batchnorm_1/add_1", "batchnorm_1"),
        ("StatefulPartitionedCall/net/bn/FusedBatchNormV3", "net/bn"),
        ("StatefulPartitionedCall/FusedBatchNormV3", "FusedBatchNormV3"),
    ],
)
def test_scopes_of_operations(operation: str, expected: str) -> None:
    assert scopes.scope_of(operation) == expected


def test_norms_by_names() -> None:
    found = scopes.norms(
        [
            # Keras and tf.layers, with what an optimiser and averaging leave beside them
            "bn/gamma", "bn/beta", "bn/moving_mean", "bn/moving_variance", "bn/gamma/Adam", "bn/moving_variance/Adam",
            "bn/moving_mean/biased", "bn/moving_mean/local_step", "bn/moving_variance/ExponentialMovingAverage",
            # TF-Slim without scale
            "net/BatchNorm/beta", "net/BatchNorm/moving_mean", "net/BatchNorm/moving_variance",
            # Keras 3 counts equal names
            "sub/gamma_3", "sub/beta_3", "sub/moving_mean_3", "sub/moving_variance_3",
            # averaged moments, by two ages of TensorFlow
            "e/gamma", "e/beta", "e/e/moments/Squeeze/ExponentialMovingAverage",
            "e/e/moments/Squeeze_1/ExponentialMovingAverage",
            "o/o/moments/normalize/mean/ExponentialMovingAverage",
            "o/o/moments/normalize/variance/ExponentialMovingAverage",
            # by hand, at the top
            "pop_mean", "pop_variance", "scale", "offset",
            # a mean without a variance, and another way round
            "lonely/moving_mean", "odd/moving_variance",
        ]
    )  # fmt: skip
    assert found == {
        "bn": {name: f"bn/{name}" for name in ("gamma", "beta", "moving_mean", "moving_variance")},
        "net/BatchNorm": {name: f"net/BatchNorm/{name}" for name in ("beta", "moving_mean", "moving_variance")},
        "sub_3": {name: f"sub/{name}_3" for name in ("gamma", "beta", "moving_mean", "moving_variance")},
        "e": {
            "gamma": "e/gamma",
            "beta": "e/beta",
            "moving_mean": "e/e/moments/Squeeze/ExponentialMovingAverage",
            "moving_variance": "e/e/moments/Squeeze_1/ExponentialMovingAverage",
        },
        "o/o": {
            "moving_mean": "o/o/moments/normalize/mean/ExponentialMovingAverage",
            "moving_variance": "o/o/moments/normalize/variance/ExponentialMovingAverage",
        },
        "batch_norm": {
            "gamma": "scale",
            "beta": "offset",
            "moving_mean": "pop_mean",
            "moving_variance": "pop_variance",
        },
    }


def test_numbers_in_names_count_as_numbers() -> None:
    paths = ["layer-10/a", "layer-9/b", "layer-9/a", "m"]
    assert sorted(paths, key=scopes.natural) == ["layer-9/a", "layer-9/b", "layer-10/a", "m"]
    assert sorted(["²", "1", "٣"], key=scopes.natural)  # digits of other scripts are not numbers
