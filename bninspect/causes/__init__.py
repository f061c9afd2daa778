"""Explanations of a mismatch: which convention was broken, proved by recomputing every value under it.

`sample` keeps what is needed of a call, `explain` names the causes. A hypothesis is made of deviations from the
formula (hypothesis.py), each on one of the axes on which kernels and converters differ: parameters.py (epsilon, root,
gamma ...), sources.py (which numbers are used), kernels.py (around, precision), fitted.py and permuted.py (with a
free number or order). It counts only if every element lies within the rounding bound of that
hypothesis (fit.py); all that fit are reported. Momentum and the estimator of the moving variance take no part in
inference, so they are never a cause.
"""

from bninspect.causes.detective import explain
from bninspect.causes.samples import Sample, sample
from bninspect.records import Cause, Explanation

__all__ = ["Cause", "Explanation", "Sample", "explain", "sample"]
