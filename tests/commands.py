"""Runs `keras-snn`: in this process, or in a terminal."""

import contextlib
import json
import os
import re
import subprocess
import sys

import pytest

from keras_snn.cli import main


def run(capsys, *arguments):
    """Return the exit status, standard output and standard error of the command."""
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


# Runs one command after the other, each followed by its exit status.
START = """
import json, sys
sys.argv[0] = "keras-snn"
from keras_snn.cli import main
for arguments in json.loads(sys.argv.pop()) if len(sys.argv) > 1 else [[]]:
    sys.argv[1:] = arguments
    try:
        status = main()
    except SystemExit as stopped:
        status = stopped.code
    print("status", status, flush=True)
sys.exit(status)
"""


def in_terminal(*commands, columns=80, folder=None):
    """Run commands in a pseudo-terminal; return `(exit status, lines on the screen)` of each."""
    pty = pytest.importorskip("pty")
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_CPP")}
    process = subprocess.Popen(
        [sys.executable, "-c", START, json.dumps(commands)],
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    os.close(theirs)
    output = b""
    with contextlib.suppress(OSError):  # Linux reports that the other side has closed
        while part := os.read(ours, 2**16):
            output += part
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;]*m", "", output.decode())
    process.wait()
    # A carriage return or backspaces write over the line so far: what counts is what was last.
    lines = [re.split(r"[\r\x08]+", line.rstrip("\r"))[-1] for line in text.split("\n")]
    results, shown = [], []
    for line in lines:
        if line.startswith("status "):
            results.append((int(line.removeprefix("status ")), shown))
            shown = []
        else:
            shown.append(line)
    assert len(results) == len(commands), text
    return results
