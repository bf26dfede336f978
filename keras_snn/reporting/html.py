"""A report as one HTML page, which needs nothing from anywhere else."""

import base64
import html
import io
import re

import numpy as np

from keras_snn.analysis.causes import good_news
from keras_snn.analysis.operation_counts import ESTIMATED, show_metrics
from keras_snn.reporting import plots
from keras_snn.reporting.drawing import plain_name

__all__ = ["page_of"]

_MOST_PLOTS = 12
_MOST_CLASSES = 20
_MOST_RASTERS = 4
_STYLE = """
:root { color-scheme: light dark; --text: #1a1a1a; --soft: #444; --page: #fff; --line: #d8d8d8; }
:root { --head: #f4f4f4; --bad: #fff4d6; --good: #e2f5ec; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e8e8e8; --soft: #b8b8b8; --page: #17191c; --line: #3a3d42; --head: #25282c; }
  :root { --bad: #46391a; --good: #17392c; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); }
body { max-width: 66rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
.lead { font-size: 1.1rem; }
.cause, .good { background: var(--bad); border-left: 4px solid #e69f00; padding: .5rem 1rem; }
.good { background: var(--good); border-color: #009e73; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .8rem; }
.figures div { background: var(--head); padding: .6rem .8rem; border-radius: .4rem; }
.figures strong { display: block; font-size: 1.35rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line); }
td { white-space: nowrap; } th { overflow-wrap: normal; background: var(--head); vertical-align: bottom; }
.total { font-weight: 600; } th:first-child, td:first-child { text-align: left; }
.plots { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 1rem; }
img { max-width: 100%; height: auto; background: #fff; }
th[title] { text-decoration: underline dotted; cursor: help; }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) auto; gap: .1rem 1rem; }
dl, summary { font-size: .9rem; }
dt { font-weight: 600; } dd { margin: 0; } .note { color: var(--soft); font-size: .9rem; }
"""
_INTRODUCTION = (
    "A trained network (the ANN) was turned into a spiking network (the SNN). Its neurons send spikes "
    "({values}) over a number of time steps; the sum of a neuron's spikes, divided by the number of steps, "
    "is its rate, which stands for how strongly it was active in the ANN. More steps give it more "
    "precisely and cost more operations."
)
_OF_TIME_CODES = (
    "A trained network (the ANN) was turned into a spiking network (the SNN). Its layers run one after the "
    "other: each neuron sends a number, how strongly it was active in the ANN, by spikes ({values}) in the "
    "window of its layer. More levels give it more precisely and cost more operations."
)
_LAYERS_LEGEND = {
    "λ": "the ANN activation that stands for rate 1",
    "rate": "its size, mean over neurons and samples",
    "saturated": "neurons at the largest rate that they can have, mean over the samples",
    "silent": "neurons at rate 0, mean over the samples",
    "correlation": "of SNN rates with ANN activations; 1 is perfect",
    "mean error": "of rate · λ against the activation, in its units",
    "largest error": "the largest of these",
    "error": "root mean square, in % of that of the activations",
    "added": "the part of it that the layer itself adds",
    "spikes": "how many, of whatever size, for one sample over all steps",
}
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
_OPERATIONS_LEGEND = {
    "operations": "multiplications and additions, as papers count them; of the SNN those that happen",
    "without zeros": "of the ANN, those whose weight and input are not 0; {levels}",
    "with updates": "one more for every update of a neuron",
    "events": "additions for spikes, one for every synapse that a threshold, a burst or a digit reaches",
    "units": "events, if each spike came as its smallest spikes",
}
_LEVELS = {
    True: "its activations are rounded to the levels of the neurons",
    False: "its activations are not rounded, as these neurons have no exact levels",
}
_NEUROBENCH_LEGEND = {
    "effective MACs": "multiply-accumulates with neither weight nor input 0, whatever the input is worth",
    "effective ACs": "accumulates of that kind: where all inputs of the layer are −1, 0 or 1",
    "dense": "both, if nothing were 0",
    "activation sparsity": "activations, or neurons and steps, that are 0",
    "neuron updates": "how often a neuron takes a step",
    "connection sparsity": "weights that are 0",
    "footprint": "memory for weights and state; that of pooling and read-out is in the total only",
}
_POINTS_LEGEND = "Without loss, all points lie on the rising line; those along its flat end are clipped."


def page_of(report):
    """Return the HTML of a `Report`."""
    levels = _LEVELS[report.counts.same_levels]
    operations = {name: text.format(levels=levels) for name, text in _OPERATIONS_LEGEND.items()}
    title = f"Report on the spiking network “{report.name}”"
    parts = [
        f"<h1>{_text(title)}</h1>",
        f'<p class="lead">{_text(report.summary)}</p>',
        _figures(report),
        *_findings(report),
        f'<p class="note">{_text(_introduction(report.diagnosis.layers))}</p>',
        *_over_time(report),
        *_confusion(report.agreement),
        *_spikes(report.trains, report.spike_times),
        "<h2>Layers</h2>",
        _layers(report),
        _legend(_LAYERS_LEGEND),
        *_errors(report),
        "<h2>Operations and energy</h2>",
        _counts(report.counts, _OPERATIONS, operations),
        _legend(operations),
        '<p class="note">Metrics of NeuroBench, which counts otherwise:</p>',
        _counts(report.counts, _NEUROBENCH, _NEUROBENCH_LEGEND),
        _legend(_NEUROBENCH_LEGEND),
        *([f'<p class="note">≈: {_text(ESTIMATED)}.</p>'] if report.counts.is_estimated else []),
        f'<p class="note">{_text(report.energy)}</p>',
        *_not_counted(report.counts),
        "<h2>How it was made</h2>",
        f"<p>Made on {_text(report.date)} by <code>{_text(_call(report.run))}</code></p>",
        _list({**report.options, **_flat({"run on": report.run, **report.versions})}),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n'
        "<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def _figures(report):
    """Return the numbers that matter most, large."""
    counts, agreement = report.counts, report.agreement
    shown = {}
    if agreement is not None and agreement.ann_accuracy is not None:
        shown["accuracy"] = f"{agreement.accuracy_over_time[-1]:.2%}"
        shown["accuracy of the ANN"] = f"{agreement.ann_accuracy:.2%}"
    if agreement is not None and agreement.top_5_accuracy is not None:
        shown["top 5"] = f"{agreement.top_5_accuracy:.2%}"
        shown["top 5 of the ANN"] = f"{agreement.ann_top_5_accuracy:.2%}"
    if agreement is not None:
        shown["agree"] = f"{agreement.agreement_over_time[-1]:.2%}"
    if agreement is None and report.output_error is not None:
        shown["error of the outputs"] = f"{report.output_error[-1]:.2%}"
    shown["time steps"] = report.diagnosis.steps
    if counts.ann_operations and counts.zero_skipping_operations:
        needed = counts.operations_with_updates
        shown["× operations of the ANN"] = f"{needed / counts.ann_operations:.2f}"
        about = "≈ " if counts.is_estimated else ""
        shown["× those without zeros"] = f"{about}{needed / counts.zero_skipping_operations:.2f}"
    if report.energy.ann:
        shown["× energy, estimated"] = f"{report.energy.snn / report.energy.ann:.2f}"
    tiles = "".join(
        f"<div><strong>{_text(value)}</strong>{_text(name)}</div>" for name, value in shown.items()
    )
    return f'<div class="figures">{tiles}</div>'


def _findings(report):
    good = good_news(report.agreement)
    return [
        f'<p class="{"good" if finding in good else "cause"}">{_sentence(finding)}</p>'
        for finding in report.findings
    ]


def _confusion(agreement):
    """Return which classes are taken for which: as a table, or of many classes the most frequent mistakes."""
    if agreement is None or agreement.confusion is None:
        return []
    matrix = np.asarray(agreement.confusion)
    if matrix.ndim == 3:
        return _labels(matrix)
    wrong = matrix - np.diag(np.diag(matrix))
    title = "<h2>Which classes are taken for which</h2>"
    if len(matrix) <= _MOST_CLASSES:
        rows = [[i, *(value or "" for value in row)] for i, row in enumerate(matrix.tolist())]
        note = "Rows: classes of the labels. Columns: classes that the SNN decides for."
        return [title, _table(["", *range(len(matrix))], rows), f'<p class="note">{note}</p>']
    places = np.argsort(-wrong, axis=None)[:_MOST_CLASSES]
    pairs = [np.unravel_index(place, wrong.shape) for place in places if wrong.flat[place]]
    rows = [[label, decided, wrong[label, decided]] for label, decided in pairs]
    return [title, _table(["class", "taken for", "samples"], rows)] if rows else []


def _labels(matrices):
    """Return how often each of several labels was found and missed: of many those with most mistakes."""
    mistakes = matrices[:, 0, 1] + matrices[:, 1, 0]
    shown = np.sort(np.argsort(-mistakes, kind="stable")[:_MOST_CLASSES])
    rows = [[i, *matrices[i, ::-1, ::-1].ravel().tolist()] for i in shown.tolist()]
    heads = ["label", "found", "missed", "found where it is not", "rightly not found"]
    which = "" if len(shown) == len(matrices) else f" The {len(shown)} of {len(matrices)} with most mistakes."
    note = f"Samples that have a label or not, and whether the SNN decides for it.{which}"
    return ["<h2>Which labels are found</h2>", _table(heads, rows), f'<p class="note">{note}</p>']


def _spikes(trains, spike_times):
    if not trains:
        return []
    shown = dict(list(trains.items())[:: max(1, len(trains) // _MOST_RASTERS)][:_MOST_RASTERS])
    images = []
    for name, train in shown.items():
        ax = plots.spike_raster(train)
        ax.set_title(plain_name(name))
        images.append(_image(ax, f"Spikes of neurons of {name}"))
    which = "" if len(shown) == len(trains) else f", of {len(shown)} of {len(trains)} layers"
    note = f"Spikes for the first sample{which}: up to forty neurons of each, spread over the layer."
    if any(times.any() for times in spike_times.values()):
        note += " And when neurons of each layer first spike."
        ax = plots.spike_time_histogram({name: spike_times[name] for name in shown})
        images.append(_image(ax, "Time steps of first spikes"))
    return ["<h2>Spikes</h2>", f'<p class="note">{note}</p>', f'<div class="plots">{"".join(images)}</div>']


def _call(run):
    given = ", ".join(f"{name}={run[name]!r}" for name in ("timesteps", "batch_size", "energy"))
    return f"keras_snn.report(snn, x, y, {given})"


def _introduction(layers):
    values = _by_layer(layer.neuron.spike_values for layer in layers)
    introduction = _OF_TIME_CODES if any(layer.neuron.is_time_code for layer in layers) else _INTRODUCTION
    return introduction.format(values=values or "0 or 1")


def _by_layer(texts):
    """Return the texts of all layers as one, each once."""
    return "; in other layers ".join(dict.fromkeys(texts))


def _over_time(report):
    agreement = report.agreement
    if agreement is None:
        if report.output_error is None:
            return []
        title = "Error of the outputs over time"
        ax = plots.accuracy_over_time(report.output_error)
        ax.set_ylabel("relative RMS error in %", fontsize=11)
        return [f"<h2>{title}</h2>", _image(ax, title)]
    if agreement.ann_accuracy is None:
        title = "Agreement with the ANN over time"
        ax = plots.accuracy_over_time(agreement.agreement_over_time)
        ax.set_ylabel("agreement in %")
        return [f"<h2>{title}</h2>", _image(ax, title)]
    title, curve, ann = "Accuracy over time", agreement.accuracy_over_time, agreement.ann_accuracy
    over_operations = "Error against operations"
    images = [_image(plots.error_over_operations(curve, report.counts, ann), over_operations)]
    if len(curve) == 1:
        title = over_operations
    else:
        images.insert(0, _image(plots.accuracy_over_time(curve, ann), title))
    return [f"<h2>{title}</h2>", f'<div class="plots">{"".join(images)}</div>']


def _layers(report):
    header = ["layer", "λ", "rate", "saturated", "silent", "correlation", "mean error", "largest error"]
    header += ["error", "added", "spikes"]
    return _table(
        header, [_layer_cells(row) for row in report.layers if "firing_rate" in row], legend=_LAYERS_LEGEND
    )


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


def _counts(counts, columns, legend):
    rows = []
    for name, part in {**counts.by_layer, "total": counts}.items():
        for i, (first, network) in enumerate(((name, "ANN"), ("", "SNN"))):
            keys = [both[i] for both in columns.values()]
            rows.append([first, network, *show_metrics(part, keys)])
    return _table(["for one sample", "", *columns], rows, total=2, legend=legend)


def _not_counted(counts):
    if not counts.not_counted:
        return []
    return [f'<p class="note">Not counted, run on averages: {_text(", ".join(counts.not_counted))}.</p>']


def _flat(facts):
    return {
        name: ", ".join(f"{what} {value}" for what, value in values.items()) for name, values in facts.items()
    }


def _table(header, rows, *, total=0, legend=()):
    """Return a table, the last `total` rows of it in bold; what a column shows appears when pointed at."""
    legend = dict(legend)
    cells = ["".join(f"<td>{_text(cell)}</td>" for cell in row) for row in rows]
    head = "".join(f"<th{_title(legend.get(cell))}>{_text(cell)}</th>" for cell in header)
    kinds = [""] * (len(rows) - total) + [' class="total"'] * total
    body = "\n".join(f"<tr{kind}>{row}</tr>" for kind, row in zip(kinds, cells, strict=True))
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n{body}\n</table></div>'


def _title(meaning):
    return "" if meaning is None else f' title="{_text(meaning)}"'


def _legend(meanings):
    """Return what columns show, in text, for paper and where nothing can be pointed at."""
    items = "".join(f"<dt>{_text(name)}</dt><dd>{_text(meaning)}</dd>" for name, meaning in meanings.items())
    return f"<details><summary>What the columns show</summary><dl>{items}</dl></details>"


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
