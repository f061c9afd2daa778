"""PyTorch's files: state_dicts, TorchScript and torch.export, all three zips, all read without torch.

torch.load and pickle.Unpickler run what the file says. Here the pickle in the zip is interpreted (`pickled.py`) with a
handful of names, each of which means a value of ours (`objects.py`); any other name ends the reading.
"""
