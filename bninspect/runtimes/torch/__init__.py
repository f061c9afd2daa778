"""PyTorch's TorchScript, torch.export and bare layers."""
