"""What arguments may be, as text: `--help` is there before anything that takes long to import.

A test compares them with what the library takes.
"""

__all__ = ["CHOICES", "DEFAULT_NEURON", "DEFAULT_TIMESTEPS", "EXPORTS"]

CHOICES = {
    "normalization": ("percentile", "max", "mse", "gaussian", "ltb", "auto", "none"),
    "neuron": ("burst", "digits", "if", "multi_threshold", "signed", "ttfs"),
    "input-encoding": ("current", "poisson", "events"),
    "max-pool": ("exact", "fir", "avg", "exp"),
    "softmax": ("potential", "poisson", "clock"),
    "bias-correction": ("bias", "potential"),
    "nonspiking": ("error", "allow"),
    "minimize": ("operations", "timesteps", "energy", "spikes"),
    "energy": ("45nm_float32", "45nm_float16", "45nm_int32", "45nm_int8"),
}
DEFAULT_NEURON = "if"
DEFAULT_TIMESTEPS = 64
# What Keras calls the format of a file by its suffix; NIR files are those of `export_nir`.
EXPORTS = {".nir": "nir", ".onnx": "onnx", ".tflite": "litert"}
