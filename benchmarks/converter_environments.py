"""Virtual environments of the converters that converters.py measures, each with packages, home and path of its own.

Installed once by `converters.py setup`. When a converter runs, pip has no index to install from, the home is a folder
in the cache, the path holds the environment and the system's tools alone, and the offline switches of hubs are on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "tensorflow": (
        "tensorflow==2.21.0",
        "tf_keras",
        "tf2onnx",
        "onnx",
        "onnxruntime",
        "ai-edge-litert",
        "openvino",
        "scipy",
    ),
    "torch": ("torch==2.13.0", "onnx", "onnxscript", "onnxruntime"),
    "onnx": ("onnx", "onnxruntime", "onnxsim", "onnxslim", "onnxoptimizer", "onnxscript", "sympy"),
    "openvino": ("openvino", "nncf", "torch==2.13.0", "onnx"),
    "ncnn": ("torch==2.13.0", "pnnx", "ncnn"),
    "litert-torch": ("torch==2.13.0", "litert-torch"),
    "onnx2tf": ("onnx2tf", "tensorflow", "tf_keras", "onnx", "onnxruntime", "ai-edge-litert"),
    "tensorflowjs": ("tensorflowjs", "ydf<0.12"),
    "coremltools": ("torch==2.13.0", "coremltools"),
}
"""The packages of each environment, as pip takes them."""


def python(cache: Path, name: str) -> Path:
    """Return the interpreter of an environment."""
    return cache / "environments" / name / "bin" / "python"


def install(cache: Path, name: str) -> str | None:
    """Make an environment, and return pip's own last words if it cannot."""
    folder = cache / "environments" / name
    told = folder / "installed.json"
    if told.exists():
        answer: str | None = json.loads(told.read_text())
        return answer
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    command = [str(python(cache, name)), "-m", "pip", "install", "--quiet", *ENVIRONMENTS[name]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    errors = [line for line in done.stderr.splitlines() if line.lower().startswith("error")]
    failure = None if done.returncode == 0 else " ".join(errors[:2]) or f"pip exited with {done.returncode}"
    told.write_text(json.dumps(failure))
    return failure


def shut_in(cache: Path, name: str) -> dict[str, str]:
    """Return the process environment of a converter: own home, own path, nothing to install or fetch from."""
    home = cache / "homes" / name
    home.mkdir(parents=True, exist_ok=True)
    return {
        "HOME": str(home),
        "PATH": os.pathsep.join([str(python(cache, name).parent), "/usr/bin", "/bin"]),
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONHASHSEED": "0",
        "DO_NOT_TRACK": "1",
    }


def installed(cache: Path, name: str) -> dict[str, str]:
    """Return name and version of each package of an environment."""
    command = [str(python(cache, name)), "-m", "pip", "list", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {package["name"].lower(): package["version"] for package in json.loads(done.stdout)}
