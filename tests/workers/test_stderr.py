"""The lines that TensorFlow prints at every start are dropped; everything else reaches the user."""

from __future__ import annotations

import pytest

from bninspect.workers.stderr import is_noise

NOISE = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795216502.895422    2337 port.cc:153] oneDNN custom operations are on. You may see slightly different
I0000 00:00:1795216502.896777    2337 cudart_stub.cc:31] Could not find cuda drivers on your machine
I0000 00:00:1795216503.444280    2337 cpu_feature_guard.cc:227] This TensorFlow binary is optimized
To enable the following instructions: AVX2 AVX512F AVX512_VNNI FMA, in other operations, rebuild TensorFlow
E0000 00:00:1741608384.041284   15 cuda_dnn.cc:8579] Unable to register cuDNN factory
2024-05-01 10:00:00.123456: I tensorflow/core/platform/cpu_feature_guard.cc:182] This TensorFlow binary is
2024-05-01 10:00:00.123456: W tensorflow/stream_executor/platform/default/dso_loader.cc:64] Could not load libcudart
2024-05-01 10:00:00.123456: W tensorflow/compiler/tf2tensorrt/utils/py_utils.cc:38] TF-TRT Warning: Could not find
""".splitlines()

COMPLAINTS = """\
E0000 00:00:1741608384.041284   15 tensor_handle.cc:10] out of memory
W0000 00:00:1741608384.041284   15 loader.cc:10] variable is missing
2024-05-01 10:00:00.123456: W tensorflow/core/framework/op_kernel.cc:1830] INVALID_ARGUMENT
2024-05-01 10:00:00.123456: E tensorflow/core/framework/tensor.cc:5] broken
UserWarning: No training configuration found
free(): invalid pointer
""".splitlines()


@pytest.mark.parametrize("line", NOISE)
def test_noise(line: str) -> None:
    assert is_noise(line)


@pytest.mark.parametrize("line", COMPLAINTS)
def test_complaints(line: str) -> None:
    assert not is_noise(line)
