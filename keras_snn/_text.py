"""Tables in plain text."""

import textwrap

__all__ = ["show_table"]

_NARROWEST = 10


def show_table(rows, *, right=(), width=None):
    """Return rows of text as aligned columns under a header.

    Args:
        rows: Lists of text of one length; the first is the header.
        right: Numbers of the columns that are aligned to the right.
        width: Most characters of a line, or `None`. The widest columns are wrapped to keep to it.

    >>> print(show_table([("layer", "rate"), ("conv1", "0.1"), ("a long name", "1")], right=[1], width=16))
    layer       rate
    ----------  ----
    conv1        0.1
    a long         1
    name
    """
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    _narrow(widths, width)
    lines = []
    for row in rows:
        wrapped = [textwrap.wrap(cell, n) or [""] for cell, n in zip(row, widths, strict=True)]
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


def _narrow(widths, width):
    """Take from the widest columns until a line has at most `width` characters, as far as that goes."""
    if width is None:
        return
    excess = sum(widths) + 2 * (len(widths) - 1) - width
    while excess > 0 and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
        excess -= 1
