"""One line about where a benchmark ran."""

import datetime
import os
import pathlib
import platform
import shutil
import subprocess

import keras
import numpy as np

import keras_snn


def _card():
    """Return the names of the graphics cards and their driver."""
    if not shutil.which("nvidia-smi"):
        return ""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    return "".join(f"; {line.replace(', ', ', driver ')}" for line in found.stdout.splitlines())


def describe():
    """Return processor, cores, cards, versions and date."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor()
    versions = f"Python {platform.python_version()}, Keras {keras.__version__} on {keras.backend.backend()}"
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        versions += f" {tf.__version__}"
    return (
        f"{processor}, {os.cpu_count()} cores{_card()}; {versions}, NumPy {np.__version__}, "
        f"keras_snn {keras_snn.__version__}; {datetime.date.today()}"
    )
