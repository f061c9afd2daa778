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

from bninspect.arithmetic.kernels.activation import NONE as NONE
from bninspect.arithmetic.kernels.activation import RELU as RELU
from bninspect.arithmetic.kernels.activation import RELU6 as RELU6
from bninspect.arithmetic.kernels.activation import Activation as Activation
from bninspect.arithmetic.kernels.activation import activate as activate
from bninspect.arithmetic.kernels.activation import activated_bound as activated_bound
from bninspect.arithmetic.kernels.affine import Step as Step
from bninspect.arithmetic.kernels.affine import Traced as Traced
from bninspect.arithmetic.kernels.affine import compose as compose
from bninspect.arithmetic.kernels.affine import follow as follow
from bninspect.arithmetic.kernels.convolution import Convolution as Convolution
from bninspect.arithmetic.kernels.convolution import convolve as convolve
from bninspect.arithmetic.kernels.dense import Dense as Dense
from bninspect.arithmetic.kernels.dense import multiply as multiply
from bninspect.arithmetic.kernels.dense import multiply_batches as multiply_batches
from bninspect.arithmetic.kernels.dynamic_range import own_step as own_step
from bninspect.arithmetic.kernels.dynamic_range import with_own_range as with_own_range
from bninspect.arithmetic.kernels.expectation import Expected as Expected
from bninspect.arithmetic.kernels.expectation import expect_chain as expect_chain
from bninspect.arithmetic.kernels.expectation import expect_norm as expect_norm
from bninspect.arithmetic.kernels.expectation import expect_sum as expect_sum
from bninspect.arithmetic.kernels.grid import Grid as Grid
from bninspect.arithmetic.kernels.grid import steps_off as steps_off
from bninspect.arithmetic.kernels.places import Budget as Budget
from bninspect.arithmetic.kernels.places import Places as Places
from bninspect.arithmetic.kernels.pooling import Pooling as Pooling
from bninspect.arithmetic.kernels.pooling import mean as mean
from bninspect.arithmetic.kernels.pooling import pool as pool
from bninspect.arithmetic.kernels.products import Exact as Exact
from bninspect.arithmetic.kernels.products import Weights as Weights
from bninspect.arithmetic.kernels.quantised import activation_steps as activation_steps
from bninspect.arithmetic.kernels.quantised import add_steps as add_steps
from bninspect.arithmetic.kernels.quantised import mean_steps as mean_steps
from bninspect.arithmetic.kernels.quantised import multiply_steps as multiply_steps
from bninspect.arithmetic.kernels.quantised import rescale_steps as rescale_steps
from bninspect.arithmetic.kernels.requantisation import Requantisation as Requantisation
from bninspect.arithmetic.kernels.requantisation import Steps as Steps
from bninspect.arithmetic.kernels.requantisation import expect_steps as expect_steps
from bninspect.arithmetic.kernels.requantisation import on_grid as on_grid
from bninspect.arithmetic.kernels.requantisation import quantise as quantise
from bninspect.arithmetic.kernels.requantisation import quantised_bound as quantised_bound
from bninspect.arithmetic.kernels.rounding import BFLOAT16 as BFLOAT16
from bninspect.arithmetic.kernels.rounding import BFLOAT16_OPERANDS as BFLOAT16_OPERANDS
from bninspect.arithmetic.kernels.rounding import FLOAT16 as FLOAT16
from bninspect.arithmetic.kernels.rounding import FLOAT16_OPERANDS as FLOAT16_OPERANDS
from bninspect.arithmetic.kernels.rounding import FLOAT16_SUMS as FLOAT16_SUMS
from bninspect.arithmetic.kernels.rounding import FLOAT32 as FLOAT32
from bninspect.arithmetic.kernels.rounding import FLOAT64 as FLOAT64
from bninspect.arithmetic.kernels.rounding import Arithmetic as Arithmetic
from bninspect.arithmetic.kernels.rounding import sum_bound as sum_bound
from bninspect.arithmetic.kernels.rounding import typical as typical
from bninspect.arithmetic.kernels.window import Window as Window
from bninspect.arithmetic.kernels.window import same as same
