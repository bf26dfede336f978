"""Starts the command `keras-snn` with the start-up messages of TensorFlow kept off the screen.

They are written while it is imported and when it first looks for devices, past Python and before any
setting is read, so `keras_snn.cli` would come too late to stop them.
"""

import contextlib
import logging
import os
import sys
import tempfile

__all__ = ["main"]


def main():
    """Run the command; return its exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        with _errors_held_back():
            import keras

            # On every backend Keras imports it when it loads or saves a model.
            with contextlib.suppress(ImportError):
                import tensorflow  # noqa: F401
            from keras_snn.cli import main as run

            keras.ops.zeros(())
    except KeyboardInterrupt:
        sys.stderr.write("keras-snn: error: interrupted; nothing was written\n")
        return 130
    return run()


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
