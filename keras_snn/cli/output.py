"""What commands return and write."""

import dataclasses
import sys

__all__ = ["Result", "write_line"]


@dataclasses.dataclass(frozen=True)
class Result:
    """What a command found.

    Attributes:
        text: As text.
        data: As data for --json.
        error: What keeps it from being a success, or `None`.
        next: A command to go on with, after `keras-snn`; "" if there is none.
    """

    text: str
    data: object
    error: str | None = None
    next: str = ""


def write_line(options, text):
    """Report progress, unless the user wants none."""
    if not (options.quiet or options.json):
        print(text, file=sys.stderr)
