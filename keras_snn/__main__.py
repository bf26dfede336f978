"""Runs the command `keras-snn` with `python -m keras_snn`."""

import sys

from keras_snn.cli import main

if __name__ == "__main__":
    sys.exit(main())
