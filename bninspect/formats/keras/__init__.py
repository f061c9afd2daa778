"""What Keras writes, from 1.2 to 3: HDF5, the `.keras` archive, files of weights."""
