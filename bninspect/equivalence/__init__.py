"""A model against an export of it: where each batch norm went, whether its numbers are right, and if not, why not.

folding.py    the arithmetic: a batch norm taken into the weights and bias of its neighbour, and the bound of that
pairing.py    which operation of the export holds which batch norm of the source
hypotheses.py what converters do wrong, each as arithmetic that would explain the numbers
outputs.py    the tensors of the two, brought into the same order and compared
"""
