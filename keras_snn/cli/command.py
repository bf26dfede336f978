"""Run a command: its output, its errors and its exit status."""

import contextlib
import json
import os
import shutil
import sys
import warnings

from keras_snn import _start
from keras_snn.cli.arguments import parser
from keras_snn.cli.output import write_line

__all__ = ["main"]


def main(arguments=None):
    """Run the command; return its exit status, which `--help` explains."""
    if not (sys.argv[1:] if arguments is None else arguments):
        parser().print_help(sys.stderr)
        return 2
    options = parser().parse_args(arguments)
    options.width = min(shutil.get_terminal_size().columns, 100)
    options.verbose = int(sys.stderr.isatty() and not (options.quiet or options.json))
    try:
        result = _run(options)
        print(json.dumps(result.data) if options.json else result.text, flush=True)
        if result.next:
            write_line(options, f"next: keras-snn {result.next}")
    except BrokenPipeError:
        # Whoever reads has read enough; Python would report it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _fail("interrupted; nothing was written", 130)
    except Exception as error:
        if options.debug:
            raise
        return _fail(_one_message(error))
    return _fail(result.error) if result.error else 0


def _run(options):
    """Return the `Result` of the command; what it prints while it works goes to standard error."""
    _start.load()
    # After Keras, for whose start the messages are held back.
    from keras_snn.cli import commands

    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", category=UserWarning, module=r"keras_snn(\.|$)")
        warnings.showwarning = lambda message, *_, **__: write_line(options, f"keras-snn: warning: {message}")
        return getattr(commands, options.command)(options)


def _fail(message, status=1):
    print(f"keras-snn: error: {message}", file=sys.stderr)
    return status


def _one_message(error):
    """Return the message of an error; if it is none that we raise, such as one of TensorFlow, its start."""
    if isinstance(error, (ValueError, TypeError, OSError, ImportError, MemoryError)):
        return str(error) or type(error).__name__
    start = str(error).strip().split("\n")[0][:200]
    return f"{type(error).__name__}: {start}. Run with --debug for the traceback."
