"""A model against an export of it: where each batch norm went, whether its numbers are right, and if not, why not.

source.py, running.py     the two are run on the same input
folding.py, tensors.py    the arithmetic of a fold and its bound; the tensors of the two in the same order
pairing/                  which operation of the export holds which kernel and batch norm of the model
evidence/                 what is seen when both run: each operation, each stretch between two, the outputs
diagnosis/                what was done to a batch norm whose numbers are nowhere
judgement/                the verdict, a pure function of all that
by_running.py, by_numbers.py    these in their order; the second where one of the two holds weights alone
"""
