"""The command `keras-snn`: arguments in, text out.

Every command is a function of its options that returns a `Result`. What it reports while it works goes to
standard error; the result, and nothing else, to standard output.
"""

from keras_snn.cli.command import main

__all__ = ["main"]
