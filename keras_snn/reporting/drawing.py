"""What plots share: axes, colours, legends, and bars for each layer."""

import numpy as np

__all__ = ["COLORS", "axes_of", "bars_per_layer", "check_matplotlib", "finish", "plain_name", "style_of"]

# The colours of Okabe and Ito (2008), which colour-blind people can distinguish; and styles beside them.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
HATCHES = ("", "////", "....", "xxxx")


def check_matplotlib():
    """Raise an `ImportError` that names what to install, if matplotlib is not there."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError("Plots need matplotlib. Install it with pip install 'keras-snn[plots]'.") from error


def axes_of(ax, *, square=False, height=3.6):
    """Return `ax`, or that of a new figure, which pyplot does not know."""
    if ax is not None:
        return ax
    check_matplotlib()
    from matplotlib.figure import Figure

    return Figure(
        figsize=(4.4 if square else 6.4, 3.6 if square else height), layout="constrained"
    ).subplots()


def finish(ax, xlabel, ylabel, *, legend):
    """Label the axes, add a grid and, if asked to, the legend; return the `Axes`."""
    ax.set_xlabel(xlabel, fontsize=11)
    ax.set_ylabel(ylabel, fontsize=11)
    ax.tick_params(labelsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    if xlabel.startswith("time step"):
        ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(alpha=0.25)
    ax.set_axisbelow(True)
    if legend:
        ax.legend(fontsize=9.5, frameon=False)
    return ax


def style_of(i):
    """Return the colour and the line style of curve number `i`."""
    return {"color": COLORS[i % len(COLORS)], "linestyle": STYLES[i % len(STYLES)]}


def plain_name(name):
    """Return a name that matplotlib takes for text only, with no formulas in it."""
    return name.replace("$", r"\$")


def bars_per_layer(names, bars, label, *, factor=1, ax=None):
    """Draw horizontal bars, some for each layer, and return the `Axes`.

    Args:
        names: Names of the layers.
        bars: Dict of a value for each layer, by what it is.
        label: What the axis shows.
        factor: What the values are multiplied with.
        ax: `Axes` to draw on.
    """
    ax = axes_of(ax, height=1.2 + 0.75 * len(names))
    thickness = 0.8 / len(bars)
    places = np.arange(len(names), dtype="float64")
    for i, (name, values) in enumerate(bars.items()):
        at = places + (i - (len(bars) - 1) / 2) * thickness
        look = {"color": COLORS[i], "hatch": HATCHES[i], "edgecolor": "white"}
        ax.barh(at, factor * np.asarray(values, "float64"), thickness, label=name, **look)
    ax.set_yticks(places, [plain_name(name) for name in names])
    ax.invert_yaxis()
    finish(ax, label, "", legend=False)
    # Above the bars, which may be anywhere.
    ax.legend(fontsize=9.5, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(bars) + 1)
    return ax
