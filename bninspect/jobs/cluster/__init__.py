"""Many models on the machines of a Dask cluster: what is sent there, who works there, and whether they are alike."""
