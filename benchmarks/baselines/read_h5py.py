"""The least that reading can cost: h5py alone, no checks, only the batch-norm arrays of one HDF5 model.

It does not read epsilon, axis or the order of the layers, and believes whatever the file says.
"""

import sys

import h5py

total, layers = 0.0, 0
with h5py.File(sys.argv[1]) as file:
    weights = file["model_weights"]
    for layer in weights.attrs["layer_names"]:
        group = weights[layer]
        names = list(group.attrs["weight_names"])
        if any(name.endswith("moving_variance") for name in names):
            layers += 1
            total += sum(float(group[name][()].sum()) for name in names)
print(layers, total)
