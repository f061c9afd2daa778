"""PyTorch's files: checkpoints and modules of torch.save, TorchScript and torch.export, all read without torch.

torch.load and pickle.Unpickler run what the file says. Here a pickle is interpreted (`encodings/pickle_opcodes.py`)
with a handful of names, each of which means a value of ours (`objects.py`); any other name is a record of itself.
"""
