import dataclasses
import io
import itertools
import sys
import types

import numpy as np
import pytest

from keras_snn import neurons, plots
from keras_snn.analysis.diagnosis import PARTS, Diagnosis, Error, LayerDiagnosis

pytest.importorskip("matplotlib")


def layer(name, rng, **fields):
    errors = {part: Error(*rng.uniform(0, 1, 3)) for part in ("error", "added", *PARTS)}
    values = {"activation": 1.0, "firing_rate": 0.2, "saturated": 0.1, "silent": 0.3, "correlation": 0.9375}
    pairs = {"activations": rng.uniform(0, 3, 30), "rates": rng.uniform(0, 1, 30)}
    values |= {"neuron": neurons.IntegrateAndFire(), "largest_rate": 1.0, "scale": 2.0}
    return LayerDiagnosis(**{"name": name, **values, **pairs, **errors, **fields})


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
    rising, flat = (line.get_xydata() for line in ax.lines)
    np.testing.assert_allclose(rising, [[0, 0], [1, 1]])
    np.testing.assert_allclose(flat, [[1, 1], [one.activations.max(), 1]])
    assert all(line.zorder < ax.collections[0].zorder for line in ax.lines)
    assert labels(ax) == ("ANN activation / λ", "SNN rate: sum of spikes / time steps")
    assert ax.get_title() == "conv, correlation 0.9375"
    assert legend(ax) == ["rate = activation / λ", "clipped: the largest rate", "neuron"]


def test_the_ideal_line_goes_up_to_the_largest_rate_whatever_the_scales_are(rng):
    """Channels with λ of their own, and neurons whose rates exceed 1."""
    burst = {"neuron": neurons.Burst(gamma=5), "largest_rate": 5.0, "rates": rng.uniform(0, 2.5, 30)}
    one = layer("conv", rng, scale=rng.uniform(1, 3, 4), **burst)
    (line,) = plots.activation_against_rate(one).lines
    end = max(one.activations.max(), one.rates.max())
    np.testing.assert_allclose(line.get_xydata(), [[0, 0], [end, end]])
    two = dataclasses.replace(one, neuron=neurons.MultiThreshold(), largest_rate=1.875)
    rising, flat = plots.activation_against_rate(two).lines
    np.testing.assert_allclose(rising.get_xydata(), [[0, 0], [1.875, 1.875]])
    assert set(flat.get_ydata()) == {1.875}
    (binary,) = plots.activation_against_rate(
        layer("sign", rng, activations=np.array([-1.0, 1.0]), rates=np.array([-1.0, 0.5]))
    ).lines
    np.testing.assert_allclose(binary.get_xydata(), [[-1, -1], [1, 1]])


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
    assert labels(ax) == ("rate in spikes per step", "neurons in % (logarithmic)")
    assert legend(ax) == ["a", "b"]


def test_spike_raster_has_a_mark_for_every_spike(rng):
    train = rng.integers(0, 2, (6, 2, 3))
    ax = plots.spike_raster(train)
    expected = {(t + 1, i) for t in range(6) for i in range(6) if train[t].ravel()[i]}
    (marks,) = ax.collections
    assert set(map(tuple, marks.get_offsets().astype(int))) == expected
    assert labels(ax) == ("time step", "neuron")
    assert ax.get_legend() is None


def test_spike_raster_sets_the_signs_apart_and_names_them_above_the_axes(rng):
    train = rng.integers(-1, 2, (6, 2, 3))
    ax = plots.spike_raster(train)
    for marks, sign in zip(ax.collections, (1, -1), strict=True):
        expected = [(t + 1 - 0.15 * sign, i) for t in range(6) for i in range(6)]
        expected = [at for at, value in zip(expected, train.ravel(), strict=True) if value == sign]
        np.testing.assert_allclose(marks.get_offsets(), expected)
    assert legend(ax) == ["spike", "negative spike"]
    ax.figure.canvas.draw()
    assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1 - 1


def test_spike_raster_draws_some_neurons_of_many(rng):
    train = rng.random((9, 14, 14, 16)) < 0.2
    ax = plots.spike_raster(train)
    assert ax.get_ylabel() == "neuron (100 of 3,136)"
    assert ax.get_ylim() == (-0.5, 99.5)
    chosen = np.linspace(0, 3135, 100).round().astype(int)
    assert np.all(np.abs(np.diff(chosen) - 3135 / 99) <= 1)
    (marks,) = ax.collections
    assert len(marks.get_offsets()) == train.reshape(9, -1)[:, chosen].sum()
    names = [int(text.get_text().replace(",", "")) for text in ax.get_yticklabels()]
    rows = ax.get_yticks()
    assert names == chosen[rows].tolist()
    # Marks of one row do not reach into the next.
    ax.figure.canvas.draw()
    pitch = ax.get_window_extent().height * 72 / ax.figure.dpi / 100
    assert np.sqrt(marks.get_sizes().max()) <= pitch


def test_spike_raster_draws_the_neurons_that_are_chosen(rng):
    train = rng.integers(0, 2, (6, 4, 3))
    ax = plots.spike_raster(train, [7, (0, 2)])
    (marks,) = ax.collections
    expected = [(t + 1, row) for t in range(6) for row, i in enumerate((7, 2)) if train[t].ravel()[i]]
    np.testing.assert_allclose(marks.get_offsets(), expected)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["7", "(0, 2)"]
    assert ax.get_ylabel() == "neuron (2 of 12)"
    assert plots.spike_raster(train, 5).get_ylabel() == "neuron (5 of 12)"
    with pytest.raises(ValueError, match="`neurons` must be at least 1. Received: neurons=0."):
        plots.spike_raster(train, 0)


def test_spike_raster_draws_larger_spikes_larger():
    (marks,) = plots.spike_raster(np.array([[0.125], [1.0], [0.5]])).collections
    widths = np.array(marks.get_linewidths())
    np.testing.assert_allclose(widths / widths.max(), [0.125, 1.0, 0.5])


def test_lines_and_bars_differ_by_more_than_colour(rng):
    rates = {name: rng.uniform(0, 1, 9) for name in "abc"}
    assert len({str(patch.get_linestyle()) for patch in plots.firing_rate_histogram(rates).patches}) == 3
    bars = plots.error_per_layer(Diagnosis((layer("conv", rng),), 8, 100)).containers
    assert len({part[0].get_hatch() for part in bars}) == len(PARTS)


def test_the_wave_of_spikes_has_every_layer_in_its_window(rng):
    trains = {"first": rng.integers(0, 2, (2, 5, 3, 2)), "second": rng.integers(0, 2, (2, 7, 4))}
    ax = plots.spike_wave(trains, sample=1)
    steps = [np.sort(line.get_xdata()) for line in ax.lines]
    for found, begin, train in zip(steps, (0, 5), trains.values(), strict=True):
        flat = train[1].reshape(len(train[1]), -1)
        np.testing.assert_array_equal(found, np.repeat(begin + np.arange(1, len(flat) + 1), flat.sum(axis=1)))
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["first", "second"]


def test_spike_times_are_counted_and_silent_neurons_named():
    ax = plots.spike_time_histogram({"conv": np.array([[1, 1, 3, 0]])})
    (stairs,) = ax.patches
    np.testing.assert_allclose(stairs.get_data().values, [50, 0, 25])
    assert ax.get_legend().get_texts()[0].get_text() == "conv (25% silent)"


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
    updates = 1000 * np.arange(1, 6)
    counts = types.SimpleNamespace(
        snn_operations=operations,
        updates_over_time=updates,
        ann_operations=3_000_000,
        zero_skipping_operations=2_000_000,
    )
    ax = plots.error_over_operations(accuracies, counts, 0.875)
    snn, with_updates, ann, without_zeros = ax.lines
    for line, spent in ((snn, operations), (with_updates, operations + updates)):
        np.testing.assert_allclose(line.get_xydata(), np.stack([spent / 1e6, 100 - 100 * accuracies], axis=1))
    np.testing.assert_allclose(ann.get_xydata(), [[3.0, 12.5]])
    np.testing.assert_allclose(without_zeros.get_xydata(), [[2.0, 12.5]])
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


def test_plots_name_what_to_install_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"Plots need matplotlib. Install it with pip install 'keras-snn\["):
        plots.accuracy_over_time([0.5])
