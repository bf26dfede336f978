"""Counts of random numbers, for tests of what is derived from them."""

from keras_snn.analysis.layer_operations import LayerOperations, NeuronOperations
from keras_snn.analysis.operation_counts import OperationCounts

NUMBERS = ("macs", "biases", "dense", "weights", "zeros", "footprint")


def random_counts(rng, timesteps=5):
    """Counts of a layer that is computed once, one of spikes, and two of other values; and two of neurons."""
    parts = {"once": {"is_analog": True, "reads": 50}, "spikes": {}, "others/0": {}, "others/1": {}}
    layers_ = []
    for name, options in parts.items():
        numbers = dict(zip(NUMBERS, rng.integers(10, 10**6, len(NUMBERS)).tolist(), strict=True))
        options["additions"] = rng.uniform(1, 1e5, timesteps)
        options["multiply_adds"] = rng.uniform(1, 1e5, timesteps) * (name != "spikes")
        options["units"] = options["additions"] * rng.uniform(1, 3)
        options["ones"], options["graded"] = rng.uniform(1, 1e5), rng.uniform(1, 1e5) * (name != "spikes")
        options["ann_zero_skipping"], options["zero_skipping"] = rng.uniform(1, 1e5, 2)
        options["sums"] = int(rng.integers(1, 100))
        options["ann_additions"] = rng.uniform(1, 1e5)
        options["ann_multiply_adds"] = rng.uniform(1, 1e5) * (name in ("spikes", "others/1"))
        layers_.append(LayerOperations(name, **numbers, **options))
    neurons = [
        NeuronOperations(name, n, timesteps, rng.uniform(1, n * timesteps), rng.uniform(1, n), 8 * n)
        for name, n in (("spikes", 70), ("relu", 30))
    ]
    return OperationCounts(tuple(layers_), ("pool",), tuple(neurons), 12)
