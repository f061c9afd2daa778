"""What each linear operation of a model makes of its own input, in float64, and how far a right kernel may be from it.

NumPy only: nothing here knows files, frameworks or runtimes. One module per family:

    window          sizes, strides, padding (explicit, `same`), dilation; what each output reads
    places          which places are recomputed: all, or a seeded sample above a `Budget`
    products        `Weights` (values, bias, and by how much each may be off), `Exact` (value, magnitude S, n terms)
    convolution     `Convolution`, `convolve`: any rank, grouped, depthwise, dilated, transposed
    dense           `multiply`
    activation      `Activation`, `activate`, and what each makes of an error
    rounding        `Arithmetic` (the types a kernel declares), `sum_bound`
    expectation     `Expected`: values and bounds behind the activation, and the ratios of what a runtime returned
    requantisation  `Requantisation` (which kernel): how far it may be from what whole numbers say
    dynamic_range   `own_step`, `with_own_range`: inputs that a kernel quantises by their own range

`equivalence/evidence/local` judges an operation on the input x and the output y that the export's runtime itself had:

    weights = Weights.of(W, B, bound=dW, bias_bound=dB)      # from the model, the shapes of `records.graph.Kernel`
    exact = convolve(Convolution(window, groups, channel_axis=-1), x, weights)
    expected = expect_sum(exact, Activation("clip", 0, 6))
    expected.worst(exact.places.pick(y))                     # <= 1: agrees; infinite: cannot be said

Results are rows of places, (places, channels): `places.pick` takes the same rows from y in its own layout,
`places.share` says how many of all there are. Where nothing can be promised (numbers that are not finite, sums too long
for the type) a bound is NaN and its ratio infinite, never agreement.
"""

from __future__ import annotations

from bninspect.arithmetic.kernels.activation import NONE as NONE
from bninspect.arithmetic.kernels.activation import Activation as Activation
from bninspect.arithmetic.kernels.activation import activate as activate
from bninspect.arithmetic.kernels.activation import activated_bound as activated_bound
from bninspect.arithmetic.kernels.convolution import Convolution as Convolution
from bninspect.arithmetic.kernels.convolution import convolve as convolve
from bninspect.arithmetic.kernels.dense import multiply as multiply
from bninspect.arithmetic.kernels.dynamic_range import own_step as own_step
from bninspect.arithmetic.kernels.dynamic_range import with_own_range as with_own_range
from bninspect.arithmetic.kernels.expectation import Expected as Expected
from bninspect.arithmetic.kernels.expectation import expect_sum as expect_sum
from bninspect.arithmetic.kernels.places import Budget as Budget
from bninspect.arithmetic.kernels.places import Places as Places
from bninspect.arithmetic.kernels.products import Exact as Exact
from bninspect.arithmetic.kernels.products import Weights as Weights
from bninspect.arithmetic.kernels.requantisation import Requantisation as Requantisation
from bninspect.arithmetic.kernels.requantisation import addition_error as addition_error
from bninspect.arithmetic.kernels.requantisation import multiplication_error as multiplication_error
from bninspect.arithmetic.kernels.rounding import FLOAT16 as FLOAT16
from bninspect.arithmetic.kernels.rounding import FLOAT32 as FLOAT32
from bninspect.arithmetic.kernels.rounding import FLOAT64 as FLOAT64
from bninspect.arithmetic.kernels.rounding import Arithmetic as Arithmetic
from bninspect.arithmetic.kernels.rounding import gamma as gamma
from bninspect.arithmetic.kernels.rounding import sum_bound as sum_bound
from bninspect.arithmetic.kernels.window import Window as Window
from bninspect.arithmetic.kernels.window import same as same
