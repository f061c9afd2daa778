"""HDF5 and zip: each is opened in one place, where hostile files are refused."""
