"""Starts the command with `python -m keras_snn.cli`."""

import sys

from keras_snn.cli.command import main

if __name__ == "__main__":
    sys.exit(main())
