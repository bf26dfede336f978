"""How the command `keras-snn` starts: at once if it only helps, and without the messages of TensorFlow.

To import Keras takes seconds, and its backend writes to the screen while it is imported and when it first
looks for devices, past Python and before any setting is read. So in the process of the command `import
keras_snn` imports nothing, and the command calls `load` once its arguments are read and found good.
"""

import contextlib
import importlib
import logging
import os
import pathlib
import sys
import tempfile

__all__ = ["check_backend", "is_to_wait", "load"]

_NAMES = ("keras-snn", "keras-snn.exe", "keras-snn-script.py")


def check_backend(backend):
    """Raise an `ImportError` before anything runs on a backend of Keras that the package is not made for."""
    if backend == "openvino":
        raise ImportError(
            "keras_snn runs on the backends tensorflow, jax and torch of Keras. Received: openvino. Set "
            "KERAS_BACKEND to one of them; the files of models are the same."
        )


def is_to_wait():
    """Whether this process is the command, or `python -m keras_snn`, and has not imported Keras yet."""
    if "keras" in sys.modules:
        return False
    if pathlib.PurePath(sys.argv[0] if sys.argv else "").name in _NAMES:
        return True
    before = sys.orig_argv[:-1]
    return any(arguments == ("-m", "keras_snn") for arguments in zip(before, sys.orig_argv[1:], strict=True))


def load():
    """Import Keras, its backend and the package, if they are not yet there; what they write is held back."""
    if "keras" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with _errors_held_back():
        import keras

        # On every backend Keras imports it when it loads or saves a model.
        with contextlib.suppress(ImportError):
            import tensorflow  # noqa: F401
        importlib.reload(importlib.import_module("keras_snn"))
        keras.ops.zeros(())


@contextlib.contextmanager
def _errors_held_back():
    """Hold back what is written to standard error; it is shown if there is an error in the block."""
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            held.seek(0)
            os.write(screen, held.read())
            raise
        finally:
            os.dup2(screen, 2)
            os.close(screen)
