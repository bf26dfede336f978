import dataclasses
import re

import numpy as np
import pytest
from counts import random_counts

from keras_snn.analysis.energy import _joules
from keras_snn.analysis.operation_counts import OperationCounts, show_metric


def test_counts_are_sums_as_documented(rng):
    counts = random_counts(rng)
    once, spikes, others, more = counts.layers
    steps = np.arange(1, 6)
    for layer in counts.layers:
        assert layer.ann_operations == 2 * layer.macs + layer.biases + layer.sums
    operations = {
        "once": once.ann_zero_skipping + 50 * steps,
        "spikes": spikes.additions.cumsum() + spikes.biases * steps,
    }
    for layer in (others, more):
        of_steps = layer.additions + 2 * layer.multiply_adds + layer.biases
        operations[layer.name] = of_steps.cumsum()
    for layer in counts.layers:
        np.testing.assert_allclose(layer.snn_operations, operations[layer.name], rtol=1e-12)
    firsts, seconds = counts.neurons
    weights, zeros = (sum(getattr(layer, name) for layer in counts.layers) for name in ("weights", "zeros"))
    expected = {
        "macs": sum(layer.macs for layer in counts.layers),
        "ann_operations": sum(2 * layer.macs + layer.biases + layer.sums for layer in counts.layers),
        "zero_skipping_operations": sum(layer.zero_skipping for layer in counts.layers),
        "snn_operations": sum(operations.values()),
        "operations_with_updates": sum(operations.values())[-1] + 5 * 100,
        "events": sum(layer.additions.sum() for layer in counts.layers),
        "units": sum(layer.units.sum() for layer in counts.layers),
        # Once, as in the source network, or in all steps; a MAC as soon as one input is no spike.
        "effective_macs": sum(part.ones + part.graded for part in (others, more)),
        "effective_acs": once.ann_additions + spikes.ones,
        "ann_effective_macs": sum(part.ann_additions + part.ann_multiply_adds for part in (spikes, more)),
        "ann_effective_acs": once.ann_additions + others.ann_additions,
        "ann_dense": once.dense + spikes.dense + others.dense + more.dense,
        "dense": once.dense + 5 * (spikes.dense + others.dense + more.dense),
        "neuron_updates": 5 * 100,
        "activation_sparsity": 1 - (firsts.spikes + seconds.spikes) / 500,
        "ann_activation_sparsity": 1 - (firsts.ann_active + seconds.ann_active) / 100,
        "connection_sparsity": zeros / weights,
        "ann_footprint": sum(layer.footprint for layer in counts.layers),
        "footprint": sum(layer.footprint for layer in counts.layers) + 8 * 100 + 12,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(counts, name), value, rtol=1e-12, err_msg=name)
    for layer in counts.neurons:
        assert layer.updates == 5 * layer.neurons
        assert layer.activation_sparsity == pytest.approx(1 - layer.spikes / layer.updates, rel=1e-12)
        assert layer.ann_activation_sparsity == pytest.approx(1 - layer.ann_active / layer.neurons, rel=1e-12)
    del expected["macs"]
    expected["snn_operations"] = expected["snn_operations"][-1]
    assert counts.metrics == pytest.approx(expected, rel=1e-12)
    # A part that does not exist has no metrics.
    no_neurons = dataclasses.replace(counts, neurons=())
    of_neurons = {"neuron_updates", "activation_sparsity", "ann_activation_sparsity"}
    assert no_neurons.metrics.keys() == expected.keys() - of_neurons
    assert (no_neurons.neuron_updates, no_neurons.activation_sparsity) == (0, 1)
    assert no_neurons.ann_activation_sparsity == 1
    no_layers = dataclasses.replace(counts, layers=())
    assert no_layers.metrics.keys() == of_neurons | {"footprint", "ann_footprint"}
    assert no_layers.connection_sparsity == 0
    # Of a single one the fraction is 1 or 0.
    neuron = dataclasses.replace(firsts, neurons=1, timesteps=1, spikes=1.0, ann_active=1.0)
    single = OperationCounts((dataclasses.replace(once, weights=1, zeros=1),), neurons=(neuron,))
    assert single.connection_sparsity == 1
    assert single.activation_sparsity == single.ann_activation_sparsity == 0
    unspiking = tuple(dataclasses.replace(layer, additions=None) for layer in counts.layers)
    static = OperationCounts(unspiking)
    assert static.metrics == {
        name: expected[name]
        for name in ("ann_operations", "ann_dense", "connection_sparsity", "ann_footprint")
    }
    assert not static.has_spikes
    assert (static.not_counted, static.other_state) == ((), 0)


def test_counts_by_layer_have_all_parts_of_each(rng):
    counts = random_counts(rng)
    parts = counts.by_layer
    assert list(parts) == ["once", "spikes", "others", "relu"]
    names = {
        name: ([p.name for p in part.layers], [p.name for p in part.neurons]) for name, part in parts.items()
    }
    assert names == {
        "once": (["once"], []),
        "spikes": (["spikes"], ["spikes"]),
        "others": (["others/0", "others/1"], []),
        "relu": ([], ["relu"]),
    }
    assert all(part.other_state == 0 and part.not_counted == () for part in parts.values())
    # Arrays in them are no obstacle.
    assert len({counts, *counts.layers, *counts.neurons, *parts.values()}) == 1 + 4 + 2 + 4
    assert counts.layers[0] != dataclasses.replace(counts.layers[0])
    assert counts.neurons[0] == dataclasses.replace(counts.neurons[0])


def table(text):
    """Read a table in plain text: rows of cells, the header first, of which a line may have a part.

    Its numbers must stand on the right.
    """
    lines = text.splitlines()
    rule = next(i for i, line in enumerate(lines) if not line.strip("- "))
    spans = [match.span() for match in re.finditer("-+", lines[rule])]
    rows = [[line[a:z].strip() for a, z in spans] for line in lines]
    header = [" ".join(part for part in column if part) for column in zip(*rows[:rule], strict=True)]
    for line, row in zip(lines[rule + 1 :], rows[rule + 1 :], strict=True):
        for cell, (a, z) in zip(row[1:], spans[1:], strict=True):
            assert line[a:z].rstrip() == (cell and cell.rjust(z - a))
    return [header, *rows[rule + 1 :]]


def test_tables_have_the_metrics_of_every_layer(rng):
    counts = random_counts(rng)
    operations, conventions, synapses, of_neurons, energy, last = str(counts).split("\n\n")
    names = ["ANN operations", "without zeros", "SNN operations", "per step", "events", "units"]
    expected = [["layer", *names]]
    for name, part in [*((layer.name, layer) for layer in counts.layers), ("total", counts)]:
        total = part.snn_operations[-1]
        without = part.zero_skipping_operations if part is counts else part.zero_skipping
        numbers = [part.ann_operations, without, total, total / 5, part.events, np.sum(part.units)]
        expected.append([name, *(f"{number:,.0f}" for number in numbers)])
    assert table(operations) == expected
    needed = f"{counts.operations_with_updates:,.0f} operations"
    assert f"With 500 updates of neurons the SNN needs {needed}" in " ".join(conventions.split())
    assert "its activations are not rounded." in " ".join(conventions.split())
    rounded = " ".join(str(dataclasses.replace(counts, same_levels=True)).split())
    assert "its activations have the levels of the neurons" in rounded
    keys = ["effective_macs", "effective_acs", "dense"]
    headers = [
        f"{net} {key}" for key in ("effective MACs", "effective ACs", "dense") for net in ("ANN", "SNN")
    ]
    columns = [prefix + key for key in keys for prefix in ("ann_", "")]
    more = ["ANN activation sparsity", "SNN activation sparsity", "neuron updates", "connection sparsity"]
    others = ["ann_activation_sparsity", "activation_sparsity", "neuron_updates", "connection_sparsity"]
    for text, header, names in (
        (synapses, headers, columns),
        (of_neurons, [*more, "ANN footprint", "SNN footprint"], [*others, "ann_footprint", "footprint"]),
    ):
        rows = table(text)
        assert rows[0] == ["for one sample", *header]
        for row, (name, part) in zip(rows[1:], [*counts.by_layer.items(), ("total", counts)], strict=True):
            assert row == [name, *(show_metric(key, part.metrics.get(key)) for key in names)]
    assert " ".join(energy.split()) == f"Energy: {counts.energy()}"
    assert last == "Not counted, run on averages: pool."
    for _ in range(20):
        assert max(map(len, str(random_counts(rng)).splitlines())) <= 100
    static = OperationCounts(tuple(dataclasses.replace(layer, additions=None) for layer in counts.layers))
    assert table(str(static)) == [row[:2] for row in expected]


def test_metrics_and_energies_have_readable_units():
    shown = {
        ("dense", 0): "0",
        ("dense", 10**9 - 1): "999,999,999",
        ("dense", 10**9): "1,000 M",
        ("footprint", 1024): "1.0 KiB",
        ("footprint", 2**20 - 2**10): "1023.0 KiB",
        ("ann_footprint", 2**20): "1.0 MiB",
        ("activation_sparsity", 0.12345): "12.35%",
        ("footprint", None): "",
    }
    assert {case: show_metric(*case) for case in shown} == shown
    energies = {2.5: "2.5e+03 mJ", 1e-4: "0.1 mJ", 9.99e-5: "99.9 µJ", 1e-7: "0.1 µJ", 9.99e-8: "99.9 nJ"}
    assert {energy: _joules(energy) for energy in energies} == energies
