"""One line about where a benchmark ran."""

import datetime
import os
import pathlib
import platform

import keras
import numpy as np

import keras_snn


def describe():
    """Return processor, cores, versions and date."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor()
    versions = f"Python {platform.python_version()}, Keras {keras.__version__} on {keras.backend.backend()}"
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        versions += f" {tf.__version__}"
    return (
        f"{processor}, {os.cpu_count()} cores; {versions}, NumPy {np.__version__}, "
        f"keras_snn {keras_snn.__version__}; {datetime.date.today()}"
    )
