"""An argument parser that proposes the nearest of what it knows."""

import argparse
import difflib
import os
import re

__all__ = ["SuggestingParser"]


class SuggestingParser(argparse.ArgumentParser):
    """A parser whose errors end with what may have been meant; those of commands are of this class too."""

    def __init__(self, *args, **kwargs):
        self._options, self._commands = [], None
        super().__init__(*args, **kwargs)

    def add_argument(self, *names, **how):
        """Add an argument, and remember its names."""
        self._options += [name for name in names if name.startswith("--")]
        return super().add_argument(*names, **how)

    def add_subparsers(self, **how):
        """Add the commands, and remember them."""
        self._commands = super().add_subparsers(**how)
        return self._commands

    def error(self, message):
        """Exit with status 2 and the message, with what may have been meant."""
        super().error(message + self._meant(message))

    def _meant(self, message):
        choice = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if choice:
            return _sentence(choice[1], re.findall(r"[\w.-]+", choice[2]))
        other = re.search(r": must (.*), received '(.*?)'", message)
        if other:
            # Of a file, its suffix.
            stem, suffix = os.path.splitext(other[2])
            known = [word for word in re.findall(r"[\w.]{3,}", other[1]) if ("." in word) == bool(suffix)]
            return _sentence(suffix or other[2], known, stem if suffix else "")
        unknown = re.search(r"unrecognized arguments: .*?(--[\w-]+)", message)
        if unknown:
            commands = () if self._commands is None else self._commands.choices.values()
            return _sentence(unknown[1], [*self._options, *(o for c in commands for o in c._options)])
        return ""


def _sentence(given, known, stem=""):
    """Return a question for the nearest name, if one is near, after what all of them begin with.

    >>> _sentence("--percentil", ["--percentile", "--seed"])
    '. Did you mean --percentile?'
    """
    near = difflib.get_close_matches(given, known, n=1)
    return f". Did you mean {stem}{near[0]}?" if near and near[0] != given else ""
