"""Tables in plain text."""

import re
import textwrap

__all__ = ["show_table"]

_NARROWEST = 10
# Parts of a name, which may be wrapped after each.
_PARTS = re.compile(r"[^\s_(./]+[_(./]*|[_(./]+")


def show_table(rows, *, right=(), width=None):
    """Return rows of text as aligned columns under a header.

    Args:
        rows: Lists of text of one length; the first is the header.
        right: Numbers of the columns that are aligned to the right.
        width: Most characters of a line, or `None`. The widest columns are wrapped to keep to it: between
            words if that is enough, else also inside of names, after `_`, `(`, `.` and `/`.

    >>> print(show_table([("layer", "rate"), ("conv1", "0.1"), ("a long name", "1")], right=[1], width=16))
    layer       rate
    ----------  ----
    conv1        0.1
    a long         1
    name
    """
    rows = [[str(cell) for cell in row] for row in rows]
    widths = _widths([list(column) for column in zip(*rows, strict=True)], width)
    lines = []
    for row in rows:
        wrapped = [textwrap.wrap(_breakable(cell, n), n) or [""] for cell, n in zip(row, widths, strict=True)]
        for i in range(max(map(len, wrapped))):
            cells = [part[i] if i < len(part) else "" for part in wrapped]
            aligned = [
                cell.rjust(n) if column in right else cell.ljust(n)
                for column, (cell, n) in enumerate(zip(cells, widths, strict=True))
            ]
            lines.append("  ".join(aligned).rstrip())
        if len(lines) and row is rows[0]:
            lines.append("  ".join("-" * n for n in widths))
    return "\n".join(lines)


def _widths(columns, width):
    """Take from the widest columns until a line has at most `width` characters, as far as that goes."""
    widths = [max(map(len, column)) for column in columns]
    # First from columns that keep their words whole, then their parts.
    for split in (str.split, _PARTS.findall, lambda _: []):
        least = [max([_NARROWEST, *map(len, split(" ".join(column)))]) for column in columns]
        while width is not None and sum(widths) + 2 * (len(widths) - 1) > width:
            spare = [n if n > fewest else 0 for n, fewest in zip(widths, least, strict=True)]
            if not any(spare):
                break
            widths[spare.index(max(spare))] -= 1
    return widths


def _breakable(text, width):
    """Return text with spaces in words that are longer than `width`, as few as possible."""
    words = []
    for word in text.split():
        words.append("")
        for part in _PARTS.findall(word) if len(word) > width else [word]:
            if words[-1] and len(words[-1] + part) > width:
                words.append("")
            words[-1] += part
    return " ".join(words)
