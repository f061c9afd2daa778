"""What each operation of a model makes of its own input, in float64, and how far a right kernel may be from it.

NumPy only: nothing here knows files, frameworks or runtimes. One module per family:

    window       sizes, strides, padding (explicit, `same`), dilation; what each output reads
    places       which places are recomputed: all, or a seeded sample above a `Budget`
    products     `Weights` (values, bias, and by how much each may be off), `Exact` (value, magnitude S, n terms)
    convolution  `Convolution`, `convolve`: any rank, grouped, depthwise, dilated, transposed
    dense        `Dense`, `multiply` (Gemm: alpha, beta, transA), `multiply_batches` (a @ b)
    pooling      `Pooling`, `pool`, `mean`
    affine       `Step`, `follow`, `compose`: chains of add, subtract, multiply, divide with constants of any shape
    activation   `Activation`, `activate`, and what each makes of an error
    rounding     `Arithmetic` (the types a kernel declares), `sum_bound`
    expectation  `Expected`: values and bounds behind the activation, and the ratios of what a runtime returned

    grid            `Grid`: what whole numbers mean; `steps_off`: stored weights against the model's
    requantisation  `Requantisation` (which kernel), `Steps` (positions and bounds in output steps), `expect_steps`
    quantised       element-wise operations, means, activations on whole numbers
    dynamic_range   `own_step`, `with_own_range`: inputs that a kernel quantises by their own range

An operation is judged on the input x and the output y that the export's runtime itself had:

    weights = Weights.of(W, B, bound=dW, bias_bound=dB)      # from the model, the shapes of `records.graph.Kernel`
    exact = convolve(Convolution(window, groups, channel_axis=-1), x, weights)
    expected = expect_sum(exact, Activation("relu6"))
    expected.worst(exact.places.pick(y))                     # <= 1: agrees; infinite: cannot be said

and a quantised one by the three exact parts of it:

    steps_off(W, dW, q_w, weight_grid)                       # <= 0.5: the file says what the model says
    whole = convolve(operation, q_x, Weights.of(q_w - zero_w, q_b), zero=zero_x)
    steps = expect_steps(whole, s_x * s_w / s_y, output_grid, Requantisation.FIXED, activation)
    steps.worst(whole.places.pick(q_y))                      # <= 1: the runtime computes what the file says
    quantised_bound(convolve(operation, x, Weights.of(W, B, bound=dW + s_w / 2, ...)), output_grid)   # what it costs

Results are rows of places, (places, channels): `places.pick` takes the same rows from y in its own layout,
`places.share` says how many of all there are, `places.index` where an element stands. Where nothing can be promised
(numbers that are not finite, sums too long for the type) a bound is NaN and its ratio infinite, never agreement.
"""

from __future__ import annotations

from bninspect.arithmetic.kernels.activation import NONE, RELU, RELU6, Activation, activate, activated_bound
from bninspect.arithmetic.kernels.affine import Step, Traced, compose, follow
from bninspect.arithmetic.kernels.convolution import Convolution, convolve
from bninspect.arithmetic.kernels.dense import Dense, multiply, multiply_batches
from bninspect.arithmetic.kernels.dynamic_range import own_step, with_own_range
from bninspect.arithmetic.kernels.expectation import Expected, expect_chain, expect_norm, expect_sum
from bninspect.arithmetic.kernels.grid import Grid, steps_off
from bninspect.arithmetic.kernels.places import Budget, Places
from bninspect.arithmetic.kernels.pooling import Pooling, mean, pool
from bninspect.arithmetic.kernels.products import Exact, Weights
from bninspect.arithmetic.kernels.quantised import (
    activation_steps,
    add_steps,
    mean_steps,
    multiply_steps,
    rescale_steps,
)
from bninspect.arithmetic.kernels.requantisation import (
    Requantisation,
    Steps,
    expect_steps,
    on_grid,
    quantise,
    quantised_bound,
)
from bninspect.arithmetic.kernels.rounding import (
    BFLOAT16,
    BFLOAT16_OPERANDS,
    FLOAT16,
    FLOAT16_OPERANDS,
    FLOAT16_SUMS,
    FLOAT32,
    FLOAT64,
    Arithmetic,
    sum_bound,
    typical,
)
from bninspect.arithmetic.kernels.window import Window, same

__all__ = [
    "BFLOAT16",
    "BFLOAT16_OPERANDS",
    "FLOAT16",
    "FLOAT16_OPERANDS",
    "FLOAT16_SUMS",
    "FLOAT32",
    "FLOAT64",
    "NONE",
    "RELU",
    "RELU6",
    "Activation",
    "Arithmetic",
    "Budget",
    "Convolution",
    "Dense",
    "Exact",
    "Expected",
    "Grid",
    "Places",
    "Pooling",
    "Requantisation",
    "Step",
    "Steps",
    "Traced",
    "Weights",
    "Window",
    "activate",
    "activated_bound",
    "activation_steps",
    "add_steps",
    "compose",
    "convolve",
    "expect_chain",
    "expect_norm",
    "expect_steps",
    "expect_sum",
    "follow",
    "mean",
    "mean_steps",
    "multiply",
    "multiply_batches",
    "multiply_steps",
    "on_grid",
    "own_step",
    "pool",
    "quantise",
    "quantised_bound",
    "rescale_steps",
    "same",
    "steps_off",
    "sum_bound",
    "typical",
    "with_own_range",
]
