"""File formats: how each one stores batch norm. One module per format, one line each in `FORMATS`."""
