"""How results look in terminals and notebooks, and what they are as plain values."""

import dataclasses
import html
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from keras_snn._types import Config

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PlottedResult", "Result", "Rows", "draws", "plain"]

# A table: rows of text of one length; the first is the header.
Rows: TypeAlias = Sequence[Sequence[object]]

_TABLE = (
    '<div style="overflow-x: auto; margin-bottom: 1em"><table style="border-collapse: collapse">\n{rows}\n'
    "</table></div>"
)
_CELL = '<{tag} style="text-align: {side}; padding: 2px 8px; white-space: {wrap}">{text}</{tag}>'
# Longer text is wrapped: it is sentences, not names.
_LONG = 50
# What draws a result, by its class: plots know results, not the other way round.
_PICTURES: dict[type, Callable[..., "Axes"]] = {}


class Result:
    """What all results have: a short `repr`, tables in notebooks and with `rich`, and plain values.

    It is a base of frozen dataclasses, which give it `headline` and, where there are any, `tables`. They are
    made with `repr=False`, or the one of dataclasses, which shows whole arrays, would take its place.
    """

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        raise NotImplementedError

    def tables(self) -> list[Rows]:
        """Return the tables that notebooks show: rows of text of one length, the first of them the header."""
        return []

    def to_dict(self) -> Config:
        """Return all fields as plain values, as in JSON: lists for arrays, `None` for what is not finite."""
        return {field.name: plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def __repr__(self):
        return f"<{type(self).__name__}: {self.headline}>"

    def _repr_html_(self):
        """Return what Jupyter shows."""
        title = f"<p><b>{type(self).__name__}</b>: {html.escape(self.headline)}</p>"
        return "\n".join([title, *map(_html_table, self.tables())])

    def __rich__(self):
        """Return what `rich.print` shows."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        parts = [Text(f"{type(self).__name__}: {self.headline}")]
        for header, *rows in self.tables():
            parts.append(Table())
            for name, side in zip(header, _sides(rows, len(header)), strict=True):
                parts[-1].add_column(str(name), justify=side, overflow="fold")
            for row in rows:
                parts[-1].add_row(*(Text(str(cell)) for cell in row))
        return Group(*parts)


class PlottedResult(Result):
    """A result that has a natural picture."""

    def plot(self, *, ax: "Axes | None" = None) -> "Axes":
        """Draw the result, by a function of `keras_snn.plots`.

        Args:
            ax: Matplotlib `Axes` to draw on; those of a new figure if `None`.

        Returns:
            The `Axes`; `ax.figure` shows or saves the figure.

        Raises:
            ImportError: If matplotlib is not installed.
            ValueError: If nothing that can be drawn was computed.
        """
        return _PICTURES[type(self)](self, ax=ax)


def draws(result_class):
    """Make a function of a result and `ax` what `plot` of its class calls."""

    def register(function):
        _PICTURES[result_class] = function
        return function

    return register


def plain(value: Any) -> Any:
    """Return nested values as JSON has them.

    >>> plain({"counts": np.arange(3), "error": float("inf"), "name": "a"})
    {'counts': [0, 1, 2], 'error': None, 'name': 'a'}
    """
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return str(value)


def _html_table(table):
    header, *rows = table
    sides = _sides(rows, len(header))
    lines = [_html_row("th", header, sides), *(_html_row("td", row, sides) for row in rows)]
    return _TABLE.format(rows="\n".join(lines))


def _html_row(tag, row, sides):
    cells = zip(row, sides, strict=True)
    made = []
    for cell, side in cells:
        wrap = "normal" if len(str(cell)) > _LONG else "nowrap"
        made.append(_CELL.format(tag=tag, side=side, wrap=wrap, text=html.escape(str(cell))))
    return f"<tr>{''.join(made)}</tr>"


def _sides(rows, columns):
    """Return on which side each column is aligned: numbers on the right.

    >>> _sides([("conv", "12 %", ""), ("dense", "1,200", "")], 3)
    ['left', 'right', 'left']
    """
    cells = [[str(row[i]).removeprefix("≈ ") for row in rows if str(row[i])] for i in range(columns)]
    return ["right" if column and all(c[0].isdigit() for c in column) else "left" for column in cells]
