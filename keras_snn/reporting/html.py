"""A report as one HTML page, which needs nothing from anywhere else."""

import base64
import html
import io
import re

import numpy as np

from keras_snn.analysis.operation_counts import show_metric
from keras_snn.reporting import plots

__all__ = ["page_of"]

_MOST_PLOTS = 12
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 66rem; margin: 2rem auto; }
body { padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ccc; }
.lead { font-size: 1.1rem; }
.cause { background: #fff4d6; border-left: 4px solid #e69f00; padding: .5rem 1rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #e2e2e2; }
td { white-space: nowrap; } th { background: #f4f4f4; vertical-align: bottom; }
.total { font-weight: 600; } th:first-child, td:first-child { text-align: left; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; } img { max-width: 100%; height: auto; }
dl { display: grid; grid-template-columns: max-content auto; gap: .1rem 1rem; font-size: .9rem; }
dt { font-weight: 600; } dd { margin: 0; } .note { color: #444; font-size: .9rem; }
"""
_INTRODUCTION = (
    "A trained network (the ANN) was turned into a spiking network (the SNN). Its neurons send spikes "
    "({values}) over a number of time steps; the sum of a neuron's spikes, divided by the number of steps, "
    "is its rate, which stands for how strongly it was active in the ANN. More steps give it more "
    "precisely and cost more operations."
)
_LAYERS_LEGEND = (
    "λ: the ANN activation that stands for rate 1. rate: its size, mean over neurons and samples. saturated, "
    "silent: neurons at the largest rate that they can have, or at 0, mean over the samples. correlation: of "
    "SNN rates with ANN activations; 1 is perfect. mean and largest error: of rate · λ against the "
    "activation, in its units. error: root mean square, in % of that of the activations; added: the part "
    "that the layer itself adds. spikes: how many, of whatever size, for one sample over all steps."
)
_ERRORS_LEGEND = (
    "clipping: an activation has no rate above the largest one. inherited: layers before gave other inputs. "
    "quantisation: after {timesteps} steps rates are only {rates}. unevenness: spikes came too early or too "
    "late to count."
)
# Names in `OperationCounts.metrics`: of the ANN and of the SNN.
_OPERATIONS = {
    "operations": ("ann_operations", "snn_operations"),
    "without zeros": ("zero_skipping_operations", ""),
    "with updates": ("", "operations_with_updates"),
    "events": ("", "events"),
    "units": ("", "units"),
}
_NEUROBENCH = {
    "effective MACs": ("ann_effective_macs", "effective_macs"),
    "effective ACs": ("ann_effective_acs", "effective_acs"),
    "dense": ("ann_dense", "dense"),
    "activation sparsity": ("ann_activation_sparsity", "activation_sparsity"),
    "neuron updates": ("", "neuron_updates"),
    "connection sparsity": ("connection_sparsity", "connection_sparsity"),
    "footprint": ("ann_footprint", "footprint"),
}
_OPERATIONS_LEGEND = (
    "operations: multiplications and additions, as papers on conversion count them; of the SNN those that "
    "happen. without zeros: of the ANN, those whose weight and input are not 0; {levels}. with updates: one "
    "more for every update of a neuron. events: additions for spikes, one for every synapse that a "
    "threshold, a spike of a burst or a digit reaches. units: if each spike came as its smallest spikes."
)
_LEVELS = {
    True: "its activations are rounded to the levels of the neurons",
    False: "its activations are not rounded, as these neurons have no exact levels",
}
_NEUROBENCH_LEGEND = (
    "Metrics of NeuroBench, which counts otherwise. effective MACs and ACs: multiply-accumulates and "
    "accumulates with neither weight nor input 0, whatever the input is worth; accumulates where all inputs "
    "of the layer are −1, 0 or 1. dense: both, if nothing were 0. activation sparsity: activations, or "
    "neurons and steps, that are 0. connection sparsity: weights that are 0. footprint: memory for weights "
    "and state; that of pooling and read-out is in the total only."
)
_POINTS_LEGEND = "Without loss, all points lie on the rising line; those along its flat end are clipped."


def page_of(report):
    """Return the HTML of a `Report`."""
    title = f"Report on the spiking network “{report.name}”"
    parts = [
        f"<h1>{_text(title)}</h1>",
        f'<p class="lead">{_text(report.summary)}</p>',
        *(f'<p class="cause">{_sentence(finding)}</p>' for finding in report.findings),
        f'<p class="note">{_text(_introduction(report.diagnosis.layers))}</p>',
        *_over_time(report),
        "<h2>Layers</h2>",
        _layers(report),
        f'<p class="note">{_text(_LAYERS_LEGEND)}</p>',
        *_errors(report),
        "<h2>Operations and energy</h2>",
        _counts(report.counts, _OPERATIONS),
        f'<p class="note">{_text(_OPERATIONS_LEGEND.format(levels=_LEVELS[report.counts.same_levels]))}</p>',
        _counts(report.counts, _NEUROBENCH),
        f'<p class="note">{_text(_NEUROBENCH_LEGEND)}</p>',
        f'<p class="note">{_text(report.energy)}</p>',
        *_not_counted(report.counts),
        "<h2>How it was made</h2>",
        _list({**report.options, **_flat({"run on": report.run, **report.versions})}),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n'
        "<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def _introduction(layers):
    values = _by_layer(layer.neuron.spike_values for layer in layers)
    return _INTRODUCTION.format(values=values or "0 or 1")


def _by_layer(texts):
    """Return the texts of all layers as one, each once."""
    return "; in other layers ".join(dict.fromkeys(texts))


def _over_time(report):
    agreement = report.agreement
    if agreement is None:
        return []
    if agreement.ann_accuracy is None:
        title = "Agreement with the ANN over time"
        ax = plots.accuracy_over_time(agreement.agreement_over_time)
        ax.set_ylabel("agreement in %")
        return [f"<h2>{title}</h2>", _image(ax, title)]
    title, curve, ann = "Accuracy over time", agreement.accuracy_over_time, agreement.ann_accuracy
    over_time = _image(plots.accuracy_over_time(curve, ann), title)
    over_operations = _image(
        plots.error_over_operations(curve, report.counts, ann), "Error against operations"
    )
    return [f"<h2>{title}</h2>", f'<div class="plots">{over_time}{over_operations}</div>']


def _layers(report):
    header = ["layer", "λ", "rate", "saturated", "silent", "correlation", "mean error", "largest error"]
    header += ["error", "added", "spikes"]
    return _table(header, [_layer_cells(row) for row in report.layers if "firing_rate" in row])


def _layer_cells(row):
    error, added = row.get("error", {}), row.get("added", {})
    return [
        row["name"],
        _scale(row.get("scale")),
        _number(row.get("firing_rate"), ".4f"),
        _number(row.get("saturated"), ".2%"),
        _number(row.get("silent"), ".1%"),
        _number(row.get("correlation"), ".4f"),
        _number(error.get("mean"), ".3g"),
        _number(error.get("largest"), ".3g"),
        _number(error.get("relative"), ".1%"),
        _number(added.get("relative"), ".1%"),
        _number(row.get("spikes"), ",.0f"),
    ]


def _scale(scale):
    if scale is None or np.ndim(scale) == 0:
        return _number(scale, ".4g")
    return f"{np.min(scale):.4g} to {np.max(scale):.4g}"


def _errors(report):
    layers = report.diagnosis.layers
    if not layers:
        return []
    shown = sorted(layers, key=lambda layer: layer.added.relative, reverse=True)[:_MOST_PLOTS]
    images = [
        _image(plots.activation_against_rate(layer), f"SNN rates against ANN activations of {layer.name}")
        for layer in layers
        if layer in shown
    ]
    which = "" if len(shown) == len(layers) else f", of the {len(shown)} layers that add the largest errors"
    timesteps = report.diagnosis.timesteps
    rates = _by_layer(layer.neuron.rates_as_text(timesteps) for layer in layers)
    legend = _ERRORS_LEGEND.format(timesteps=timesteps, rates=rates)
    return [
        "<h2>Where the error comes from</h2>",
        _image(plots.error_per_layer(report.diagnosis), "Parts of the error of each layer"),
        f'<p class="note">{_text(legend)}</p>',
        f"<p>SNN rates against ANN activations, in units of λ{which}. {_POINTS_LEGEND}</p>",
        f'<div class="plots">{"".join(images)}</div>',
    ]


def _counts(counts, columns):
    rows = []
    for name, part in {**counts.by_layer, "total": counts}.items():
        metrics = part.metrics
        for i, (first, network) in enumerate(((name, "ANN"), ("", "SNN"))):
            keys = (both[i] for both in columns.values())
            rows.append([first, network, *(show_metric(key, metrics.get(key)) for key in keys)])
    return _table(["for one sample", "", *columns], rows, total=2)


def _not_counted(counts):
    if not counts.not_counted:
        return []
    return [f'<p class="note">Not counted, run on averages: {_text(", ".join(counts.not_counted))}.</p>']


def _flat(facts):
    return {
        name: ", ".join(f"{what} {value}" for what, value in values.items()) for name, values in facts.items()
    }


def _table(header, rows, *, total=0):
    """Return a table, the last `total` rows of it in bold."""
    cells = ["".join(f"<td>{_text(cell)}</td>" for cell in row) for row in rows]
    head = "".join(f"<th>{_text(cell)}</th>" for cell in header)
    kinds = [""] * (len(rows) - total) + [' class="total"'] * total
    body = "\n".join(f"<tr{kind}>{row}</tr>" for kind, row in zip(kinds, cells, strict=True))
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n{body}\n</table></div>'


def _list(items):
    rows = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in items.items())
    return f"<dl>{rows}</dl>"


def _image(ax, description):
    """Return a drawing as an image inside the page."""
    with io.BytesIO() as file:
        ax.figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
        data = base64.b64encode(file.getvalue()).decode()
    width = round(ax.figure.get_figwidth() * 75)
    return f'<img width="{width}" alt="{_text(description)}" src="data:image/png;base64,{data}">'


def _number(value, form):
    return "" if value is None else format(value, form)


def _sentence(text):
    """Return a sentence with what is in backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", _text(text))


def _text(value):
    return html.escape(str(value))
