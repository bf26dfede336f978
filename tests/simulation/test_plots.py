import dataclasses
import io
import itertools
import sys
import types

import numpy as np
import pytest

from keras_snn import plots
from keras_snn.simulation.diagnosis import PARTS, Diagnosis, Error, LayerDiagnosis

pytest.importorskip("matplotlib")


def layer(name, rng, **fields):
    errors = {part: Error(*rng.uniform(0, 1, 3)) for part in ("error", "added", *PARTS)}
    values = {"activation": 1.0, "firing_rate": 0.2, "saturated": 0.1, "silent": 0.3, "correlation": 0.9375}
    pairs = {"activations": rng.uniform(0, 3, 30), "rates": rng.uniform(0, 1, 30)}
    return LayerDiagnosis(**{"name": name, "scale": 2.0, **values, **pairs, **errors, **fields})


def labels(ax):
    return ax.get_xlabel(), ax.get_ylabel()


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_accuracy_over_time_draws_percent_and_the_ann(rng):
    accuracies = rng.uniform(0, 1, 9)
    ax = plots.accuracy_over_time(accuracies, 0.75)
    snn, ann = ax.lines
    np.testing.assert_allclose(snn.get_xydata(), np.stack([np.arange(1, 10), 100 * accuracies], axis=1))
    assert set(ann.get_ydata()) == {75.0}
    assert labels(ax) == ("time steps", "accuracy in %")
    assert legend(ax) == ["SNN", "ANN"]
    assert plots.accuracy_over_time(accuracies).get_legend() is None


def test_activation_against_rate_draws_points_and_the_ideal_line(rng):
    one = layer("conv", rng)
    ax = plots.activation_against_rate(one)
    points = ax.collections[0].get_offsets()
    np.testing.assert_allclose(points, np.stack([one.activations, one.rates], axis=1))
    line = ax.lines[0].get_xydata()
    np.testing.assert_allclose(line, [[0, 0], [2, 1], [max(one.activations.max(), 2), 1]])
    assert labels(ax) == ("ANN activation", "SNN rate in spikes per step")
    assert ax.get_title() == "conv, correlation 0.9375"


def test_firing_rate_histogram_counts_neurons_in_percent(rng):
    rates = {"a": rng.uniform(0, 0.5, (4, 5)), "b": rng.uniform(0, 1, 33)}
    ax = plots.firing_rate_histogram(rates, bins=8)
    edges = np.linspace(0, max(rates["a"].max(), rates["b"].max()), 9)
    for patch, values in zip(ax.patches, rates.values(), strict=True):
        counts, found, _ = patch.get_data()
        np.testing.assert_allclose(found, edges)
        expected = [np.mean((values >= low) & (values < high)) for low, high in itertools.pairwise(edges)]
        expected[-1] = np.mean((values >= edges[-2]) & (values <= edges[-1]))
        np.testing.assert_allclose(counts, 100 * np.array(expected))
    assert labels(ax) == ("rate in spikes per step", "neurons in %")
    assert legend(ax) == ["a", "b"]


def test_spike_raster_has_a_mark_for_every_spike(rng):
    train = rng.integers(-1, 2, (6, 2, 3))
    ax = plots.spike_raster(train)
    for marks, sign in zip(ax.collections, (1, -1), strict=True):
        expected = {(t + 1, i) for t in range(6) for i in range(6) if train[t].ravel()[i] == sign}
        assert set(map(tuple, marks.get_offsets().astype(int))) == expected
    assert labels(ax) == ("time step", "neuron")


def test_membrane_potentials_draw_chosen_neurons_and_the_threshold(rng):
    potentials = rng.normal(size=(7, 2, 3))
    ax = plots.membrane_potentials(potentials, [4, (0, 2)], v_threshold=0.5)
    first, second, threshold = ax.lines
    np.testing.assert_allclose(first.get_xydata(), np.stack([np.arange(1, 8), potentials[:, 1, 1]], axis=1))
    np.testing.assert_allclose(second.get_ydata(), potentials[:, 0, 2])
    assert set(threshold.get_ydata()) == {0.5}
    assert legend(ax) == ["neuron 4", "neuron (0, 2)", "threshold"]
    assert labels(ax) == ("time step", "membrane potential (threshold: 0.5)")


def test_error_per_layer_draws_every_part(rng):
    found = Diagnosis((layer("conv_$1", rng), layer("dense", rng)), 8, 100)
    ax = plots.error_per_layer(found)
    for part, bars in zip(PARTS, ax.containers, strict=True):
        widths = [bar.get_width() for bar in bars]
        np.testing.assert_allclose(widths, [100 * getattr(one, part).relative for one in found.layers])
        assert bars.get_label() == part
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [100 * one.error.relative for one in found.layers])
    assert [text.get_text() for text in ax.get_yticklabels()] == [r"conv_\$1", "dense"]
    assert ax.get_xlabel() == "error in % of the activations (RMS)"


def test_error_over_operations_draws_both_networks(rng):
    accuracies, operations = rng.uniform(0, 1, 5), np.cumsum(rng.integers(1, 10**6, 5))
    counts = types.SimpleNamespace(snn_operations=operations, ann_operations=3_000_000)
    ax = plots.error_over_operations(accuracies, counts, 0.875)
    snn, ann = ax.lines
    np.testing.assert_allclose(snn.get_xydata(), np.stack([operations / 1e6, 100 - 100 * accuracies], axis=1))
    np.testing.assert_allclose(ann.get_xydata(), [[3.0, 12.5]])
    assert labels(ax) == ("million operations for a sample", "error in %")


def test_plots_leave_no_figure_in_pyplot_and_draw_on_the_axes_given(rng):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = pyplot.get_fignums()
    ax = plots.accuracy_over_time([0.5, 0.75])
    assert pyplot.get_fignums() == before
    assert plots.spike_raster(np.eye(4), ax=ax) is ax
    ax.figure.savefig(io.BytesIO(), format="png")


def test_names_of_layers_are_text_and_no_formulas(rng):
    ax = plots.activation_against_rate(dataclasses.replace(layer(r"a$\bad{$b", rng)))
    ax.figure.savefig(io.BytesIO(), format="svg")


def test_plots_say_what_to_install_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"Plots need matplotlib. Install it with pip install 'keras-snn\["):
        plots.accuracy_over_time([0.5])
