import itertools
import pathlib
import sys

import contracts
import h5py
import keras
import networks
import nir_reference
import numpy as np
import pytest
from keras import layers

import keras_snn
from keras_snn import export_nir, import_nir
from keras_snn.errors import ExportError, UnsupportedLayerError
from keras_snn.graph.program import with_readouts
from keras_snn.layers import PerTimestep, SpikingConv1D, SpikingDense
from keras_snn.neurons import IntegrateAndFire, LeakyIntegrateAndFire, MultiThreshold
from keras_snn.simulation.building import build
from keras_snn.simulation.source import program_of

nir = pytest.importorskip("nir")

EVERYTHING = ("reset", "threshold", "initial_potential")
RELU = {"activation": "relu"}


def chain(*given):
    first, *rest = given
    return keras.Sequential([keras.Input(first), *rest])


def residual():
    x = inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, padding="same", **RELU)(x)
    y = layers.Conv2D(4, 3, padding="same")(x)
    y = layers.ReLU()(layers.Add()([x, y]))
    z = layers.Add()([y, y])
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(layers.AveragePooling2D(3)(z))))


def concatenated():
    x = inputs = keras.Input((6, 5, 2))
    a = layers.Conv2D(3, 3, padding="same", **RELU)(x)
    b = layers.Conv2D(2, 1, **RELU)(x)
    x = layers.Concatenate()([b, a, b])
    x = layers.Conv2D(4, 3, strides=2, padding="same", **RELU)(layers.AveragePooling2D(2, strides=1)(x))
    c = layers.Dense(3, **RELU)(layers.Flatten()(layers.Concatenate()([x, x])))
    return keras.Model(inputs, layers.Dense(2)(layers.Concatenate()([c, c])))


def two_ends():
    a, b = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    x = layers.Dense(5, **RELU)(layers.Concatenate()([a, b]))
    return keras.Model(
        {"left": a, "right": b}, [layers.Dense(2)(x), layers.Dense(3, activation="softmax")(x)]
    )


NETWORKS = {
    "dense": lambda: chain(
        (6,), layers.Dense(5, **RELU), layers.Dense(4, use_bias=False, **RELU), layers.Dense(3)
    ),
    "dense on every place": lambda: chain(
        (4, 3), layers.Dense(5, **RELU), layers.Permute((2, 1)), layers.Flatten(), layers.Dense(2)
    ),
    "conv, same with strides": lambda: chain(
        (8, 7, 2),
        layers.Conv2D(4, 3, strides=2, padding="same", **RELU),
        layers.AveragePooling2D(2),
        layers.Conv2D(3, 2, padding="same", **RELU),
        layers.Flatten(),
        layers.Dense(5, activation="softmax"),
    ),
    "conv, dilation and oblong": lambda: chain(
        (9, 8, 1),
        layers.ZeroPadding2D(((0, 1), (2, 1))),
        layers.Conv2D(3, (2, 3), dilation_rate=(3, 2), padding="same", **RELU),
        layers.Conv2D(2, (1, 3), **RELU),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2),
    ),
    "groups and depthwise": lambda: chain(
        (5, 6, 4),
        layers.Conv2D(6, 3, groups=2, **RELU),
        layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, **RELU),
        layers.AveragePooling2D(2, padding="same"),
        layers.Conv2D(2, 1, **RELU),
        layers.Cropping2D(0),
        layers.Flatten(),
        layers.Dense(3),
    ),
    "one dimension": lambda: chain(
        (9, 2),
        layers.Conv1D(3, 3, padding="causal", dilation_rate=2, **RELU),
        layers.AveragePooling1D(2),
        layers.Conv1D(4, 2, strides=2, padding="same", **RELU),
        layers.Reshape((-1,)),
        layers.Dense(3),
    ),
    "pooled twice, scaled": lambda: chain(
        (8, 8, 1),
        layers.Conv2D(2, 1, **RELU),
        layers.AveragePooling2D(2),
        layers.AveragePooling2D(2),
        layers.ReLU(),
        layers.Flatten(),
        layers.Dense(2),
    ),
    "residual": residual,
    "concatenated": concatenated,
    "two ends": two_ends,
}


def dyadic_snn(network, rng, neuron=None, timesteps=6, *, relays=False):
    """Return a converted network whose sums are exact, and inputs."""
    source = networks.randomize(NETWORKS[network](), rng)
    x = networks.data_for(source, rng, samples=4, dyadic=True)
    neuron = neuron or IntegrateAndFire()
    snn = keras_snn.convert(source, x, neuron=neuron, timesteps=timesteps, relays=relays, verbose=0)
    # Halves of scales in pools, too.
    snn.set_weights([np.round(w * 16) / 16 if np.ptp(w) else w for w in snn.get_weights()])
    return snn, x


def channels_first(x):
    return keras.tree.map_structure(lambda v: np.moveaxis(np.asarray(v, "float64"), -1, 1), x)


@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_file_computes_what_the_network_computes(network, reset, rng, tmp_path):
    neuron = IntegrateAndFire(
        v_threshold=1.5, reset=reset, initial_potential=0.5 if reset == "subtract" else 0.0
    )
    snn, x = dyadic_snn(network, rng, neuron)
    accept = EVERYTHING if reset == "subtract" else ()
    ran = snn.simulate(x, record=["spike_counts"], verbose=0)
    expected = ran.spike_counts
    assert sum(c.sum() for c in expected.values()) > 0
    for pooling in ("sum", "average", "convolution"):
        export_nir(snn, tmp_path / "net.nir", pooling=pooling, accept=accept)
        graph = nir.read(tmp_path / "net.nir")
        counts, sums = nir_reference.run(
            graph,
            channels_first(x),
            snn.timesteps,
            reset=reset,
            start=0.75 if accept else 0.0,
            # As the text of NIR for a reset to zero; as our metadata for a subtraction.
            at_threshold=bool(accept),
        )
        for name, ours in zip(sorted(sums), keras.tree.flatten(ran.outputs), strict=True):
            theirs = sums[name] / snn.timesteps
            if graph.metadata.get(f"{name}_activation") == "softmax":
                theirs = np.exp(theirs) / np.exp(theirs).sum(axis=-1, keepdims=True)
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5, err_msg=pooling)
        assert len(counts) >= len(expected)
        for name, count in expected.items():
            np.testing.assert_array_equal(
                counts[f"{name}_if"], channels_first(count), err_msg=f"{name}, {pooling}"
            )


def test_relays_come_back_from_a_file(rng, tmp_path):
    """A relay of values side by side is one of each part in the file, which has no concatenation."""
    snn, x = dyadic_snn("concatenated", rng, relays=True)
    assert any("relay" in layer.name for layer in snn.layers)
    export_nir(snn, tmp_path / "net.nir", accept=EVERYTHING)
    np.testing.assert_allclose(
        import_nir(tmp_path / "net.nir").predict(x, verbose=0), snn.predict(x, verbose=0), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_integers_are_integers_in_the_file_and_in_its_readers(reset, rng, tmp_path):
    """Bit for bit: spikes, and outputs with the scale that is in the metadata."""
    model = networks.randomize(residual(), rng)
    x = rng.integers(0, 3, (4, 6, 6, 2)).astype("float32")
    events = np.repeat(x[:, None], 6, axis=1)
    options = {"neuron": IntegrateAndFire(reset=reset, initial_potential=0.0), "input_encoding": "events"}
    snn = keras_snn.convert(model, x, timesteps=6, weight_bits=6, verbose=0, **options)
    accept = EVERYTHING if reset == "subtract" else ()
    export_nir(snn, tmp_path / "net.nir", accept=accept)
    graph, ran = nir.read(tmp_path / "net.nir"), snn.simulate(events, record=["spike_counts"])
    for node in graph.nodes.values():
        for array in (getattr(node, name, None) for name in ("weight", "bias", "scale")):
            assert array is None or np.array_equal(array, np.round(array))
    counts, sums = nir_reference.run(
        graph, channels_first(x), 6, reset=reset, at_threshold=reset == "subtract"
    )
    for name, count in ran.spike_counts.items():
        np.testing.assert_array_equal(counts[f"{name}_if"], channels_first(count))
    scale = np.asarray(graph.metadata["output_scale"], "float32") * np.float32(1 / 6)
    np.testing.assert_array_equal(ran.outputs, sums["output"].astype("float32") * scale)
    back = import_nir(tmp_path / "net.nir").simulate(events, record=["spike_counts"])
    np.testing.assert_array_equal(back.outputs, ran.outputs)
    for ours, theirs in zip(ran.spike_counts.values(), back.spike_counts.values(), strict=True):
        np.testing.assert_array_equal(theirs, ours)


def test_integers_that_are_rounded_of_numbers_are_refused_by_name(rng, tmp_path):
    model = networks.randomize(residual(), rng)
    snn = keras_snn.convert(model, networks.data_for(model, rng), timesteps=6, weight_bits=4, verbose=0)
    with pytest.raises(ExportError, match="no rounding of numbers.*input_encoding='events'"):
        export_nir(snn, tmp_path / "net.nir", accept=EVERYTHING)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_file_read_back_is_the_network(network, rng, tmp_path):
    snn, x = dyadic_snn(network, rng)
    export_nir(snn, tmp_path / "net.nir", accept=EVERYTHING)
    back = import_nir(tmp_path / "net.nir")
    assert back.timesteps == snn.timesteps
    expected, found = (keras.tree.flatten(model.predict(x, verbose=0)) for model in (snn, back))
    contracts.assert_same(found, expected, tolerance=1e-6)
    # And once more: the same file.
    export_nir(back, tmp_path / "again.nir", accept=EVERYTHING)
    first, second = (nir.read(tmp_path / name) for name in ("net.nir", "again.nir"))
    kinds = [sorted(type(node).__name__ for node in graph.nodes.values()) for graph in (first, second)]
    assert kinds[0] == kinds[1]
    assert len(first.edges) == len(second.edges)


def test_a_bias_that_differs_from_place_to_place_is_a_convolution_of_ones(rng, tmp_path):
    steps = [layers.Conv2D(3, 3, **RELU), layers.BatchNormalization(), layers.ZeroPadding2D(((1, 0), (0, 0)))]
    steps += [layers.Conv2D(4, (3, 2), strides=2, padding="same", **RELU), layers.Flatten(), layers.Dense(3)]
    source = networks.randomize(chain((9, 8, 2), *steps), rng)
    x = networks.data_for(source, rng, samples=8)
    snn = keras_snn.convert(source, x, timesteps=16, verbose=0)
    assert any(getattr(layer, "bias_per_place", False) for layer in snn.layers)
    export_nir(snn, tmp_path / "snn.nir", accept=EVERYTHING)
    again = import_nir(tmp_path / "snn.nir", timesteps=16)
    ours, theirs = (
        list(model.simulate(x, record="spike_counts").spike_counts.values()) for model in (snn, again)
    )
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_arrays_edges_and_units_are_those_of_the_network(rng, tmp_path):
    snn, _ = dyadic_snn("conv, same with strides", rng)
    export_nir(snn, tmp_path / "net.nir", dt=0.25, accept=EVERYTHING)
    graph = nir.read(tmp_path / "net.nir")
    names = [call["name"] for call in snn.calls]
    conv1, pool, conv2, flatten, dense, _ = names
    assert set(graph.edges) == {
        ("input", conv1),
        (conv1, f"{conv1}_if"),
        (f"{conv1}_if", pool),
        (pool, conv2),
        (conv2, f"{conv2}_if"),
        (f"{conv2}_if", flatten),
        (flatten, dense),
        (dense, "output"),
    }
    kernel, bias, *_ = snn.get_weights()
    # Of the zeros of Keras only the axis of 8 has more after than before: 3 values lie in 4.
    ours = graph.nodes[conv1].weight
    np.testing.assert_array_equal(
        ours[..., -3:, -3:] if ours.shape[-1] == 4 else ours, kernel.transpose(3, 2, 0, 1)
    )
    np.testing.assert_array_equal(graph.nodes[conv1].bias, bias)
    neurons = graph.nodes[f"{conv1}_if"]
    assert neurons.v_threshold.shape == (4, 4, 4)
    np.testing.assert_array_equal(neurons.r, 4.0)
    np.testing.assert_array_equal(neurons.v_threshold, 1.0)
    np.testing.assert_array_equal(neurons.v_reset, 0.0)
    found = {name: value for name, value in graph.metadata.items() if name != "written_by"}
    assert found == {
        "reset": "subtract",
        "initial_potential": 0.5,
        "threshold": ">=",
        "dt": 0.25,
        "timesteps": 6,
        "input": "current",
        "output_readout": "mean over time",
        "output_activation": "softmax",
        "output_axis": -1,
    }
    assert tuple(graph.nodes["input"].input_type["input"]) == (2, 8, 7)
    with h5py.File(tmp_path / "net.nir") as file:
        # Readers before nir 1.0.5 fail over it.
        assert "v_reset" not in file[f"node/nodes/{conv1}_if"]


def test_a_reset_to_zero_needs_no_metadata(rng, tmp_path):
    """v > the written number is v ≥ v_threshold, for all numbers of that type."""
    neuron = IntegrateAndFire(v_threshold=0.75, reset="zero", initial_potential=0.0)
    snn, _ = dyadic_snn("dense", rng, neuron)
    export_nir(snn, tmp_path / "net.nir")
    written = next(node for node in nir.read(tmp_path / "net.nir").nodes.values() if isinstance(node, nir.IF))
    threshold = written.v_threshold.flat[0]
    assert threshold.dtype == np.float32
    assert threshold < np.float32(0.75) == np.nextafter(threshold, np.float32(1))
    back = import_nir(tmp_path / "net.nir")
    assert {layer.neuron for layer in back.layers if hasattr(layer, "neuron")} == {neuron}


@pytest.mark.parametrize("pooling", ["sum", "average", "convolution"])
def test_pooling_has_the_form_that_is_asked_for(pooling, rng, tmp_path):
    snn, _ = dyadic_snn("conv, same with strides", rng)
    export_nir(snn, tmp_path / "net.nir", pooling=pooling, accept=EVERYTHING)
    kinds = {type(node).__name__ for node in nir.read(tmp_path / "net.nir").nodes.values()}
    pools = {"sum": {"SumPool2d"}, "average": {"AvgPool2d"}, "convolution": set()}
    assert kinds & {"SumPool2d", "AvgPool2d"} == pools[pooling]
    assert "Scale" not in kinds


def test_compact_files_keep_groups(rng, tmp_path):
    snn, x = dyadic_snn("groups and depthwise", rng)
    export_nir(snn, tmp_path / "net.nir", compact=True, accept=EVERYTHING)
    graph = nir.read(tmp_path / "net.nir", type_check=False)
    groups = [int(node.groups) for node in graph.nodes.values() if isinstance(node, nir.Conv2d)]
    assert sorted(groups) == [1, 2, 6, 12]
    np.testing.assert_array_equal(
        import_nir(tmp_path / "net.nir").predict(x, verbose=0), snn.predict(x, verbose=0)
    )


def test_how_the_readout_averages_is_in_the_metadata(rng, tmp_path):
    """And comes back: the same outputs at every step."""
    snn, x = dyadic_snn("dense", rng)
    shift = tuple(i / 4 for i in range(snn.predict(x, verbose=0).shape[-1]))
    snn = build(with_readouts(program_of(snn), weighting="linear", delay=2, shift=shift))
    export_nir(snn, tmp_path / "net.nir", accept=EVERYTHING)
    metadata = nir.read(tmp_path / "net.nir").metadata
    assert (metadata["output_readout_weighting"], metadata["output_readout_delay"]) == ("linear", 2)
    np.testing.assert_array_equal(metadata["output_shift"], shift)
    back = import_nir(tmp_path / "net.nir")
    np.testing.assert_array_equal(back.simulate(x).outputs_over_time, snn.simulate(x).outputs_over_time)


def test_the_output_may_spike(rng, tmp_path):
    neuron = IntegrateAndFire(reset="zero", initial_potential=0.0)
    snn, x = dyadic_snn("dense", rng, neuron)
    export_nir(snn, tmp_path / "net.nir", output="spikes", output_threshold=2.0)
    graph = nir.read(tmp_path / "net.nir")
    (last,) = (a for a, b in graph.edges if b == "output")
    np.testing.assert_array_equal(graph.nodes[last].v_threshold, np.nextafter(np.float32(2), np.float32(0)))
    currents = snn.simulate(x, verbose=0).outputs_over_time * np.arange(1, 7)[:, None]
    currents = np.diff(currents, axis=1, prepend=0)
    v, expected = 0.0, 0
    for t in range(6):
        v = v + np.round(currents[:, t] * 2**12) / 2**12
        expected = expected + (v >= 2)
        v = np.where(v >= 2, 0, v)
    _, sums = nir_reference.run(graph, channels_first(x), 6, reset="zero", at_threshold=False)
    np.testing.assert_array_equal(sums["output"], expected)
    assert expected.max() > 0


def test_hand_written_models_export(rng, tmp_path):
    neuron = LeakyIntegrateAndFire(leak=0.75, v_threshold=0.5, initial_potential=0.25)
    model = chain(
        (7, 6, 2),
        SpikingConv1D(4, 3, neuron=neuron),
        PerTimestep(layers.Flatten()),
        SpikingDense(3, neuron=neuron),
    )
    model = networks.make_dyadic(model, rng)
    export_nir(model, tmp_path / "net.nir", accept=EVERYTHING, dt=0.001)
    graph = nir.read(tmp_path / "net.nir")
    assert graph.metadata["input"] == "events"
    x = rng.integers(0, 2, (3, 6, 2)).astype("float32")
    # Constant events, which the reference takes.
    events = np.repeat(x[:, None], 7, axis=1)
    expected = model.predict(events, verbose=0)
    counts, sums = nir_reference.run(
        graph, channels_first(x), 7, reset="subtract", start=0.125, at_threshold=True, dt=0.001
    )
    assert len(counts) == 2
    np.testing.assert_array_equal(sums["output"], expected.sum(axis=1))
    back = import_nir(tmp_path / "net.nir")
    np.testing.assert_allclose(back.predict(events, verbose=0), expected.mean(axis=1), atol=1e-6)


def test_what_nir_cannot_express_is_refused_until_it_is_accepted_by_name(rng, tmp_path):
    snn, _ = dyadic_snn("dense", rng)
    with pytest.raises(ExportError) as refused:
        export_nir(snn, tmp_path / "net.nir", accept="threshold")
    text = str(refused.value)
    assert "does 2 things that a NIR file has no field for" in text
    assert "reset: NIR resets to v_reset; these subtract the threshold ('dense', 'dense_1')" in text
    assert "initial_potential" in text
    assert "accept=('threshold', 'reset', 'initial_potential')" in text
    assert not list(tmp_path.iterdir())
    export_nir(snn, tmp_path / "net.nir", accept=EVERYTHING)
    neuron = IntegrateAndFire(initial_potential=0.0)
    snn, _ = dyadic_snn("dense", rng, neuron)
    export_nir(snn, tmp_path / "net.nir", accept=("reset", "threshold"))


def content(path):
    """Return every array and every attribute of an HDF5 file, by place."""
    found = {}
    with h5py.File(path) as file:

        def take(name, item):
            values = {"": item[()]} if isinstance(item, h5py.Dataset) else {}
            found.update({f"{name}/{key}": value for key, value in {**values, **item.attrs}.items()})

        file.visititems(take)
    return found


ACCEPTS = [tuple(c) for n in range(1, 4) for c in itertools.combinations(EVERYTHING, n)]


@pytest.mark.parametrize("accept", ACCEPTS, ids="+".join)
@pytest.mark.parametrize(
    ("neuron", "needed"),
    [
        (IntegrateAndFire(reset="zero", initial_potential=0.0), set()),
        (IntegrateAndFire(reset="zero", initial_potential=0.25), {"initial_potential"}),
        (IntegrateAndFire(initial_potential=0.0), {"reset", "threshold"}),
        (LeakyIntegrateAndFire(reset="zero", initial_potential=0.0), set()),
    ],
    ids=["zero", "zero from 1/4", "subtract from 0", "leaky"],
)
def test_what_is_accepted_changes_nothing_in_the_file(neuron, needed, accept, rng, tmp_path):
    layers_of = keras_snn.layers
    model = keras.Sequential(
        [
            keras.Input((5, 4)),
            layers_of.SpikingDense(3, neuron=neuron),
            layers_of.PerTimestep(keras.layers.Dense(2)),
        ]
    )
    networks.randomize(model, rng)
    export_nir(model, tmp_path / "needed.nir", accept=needed)
    if not needed <= set(accept):
        with pytest.raises(ExportError):
            export_nir(model, tmp_path / "net.nir", accept=accept)
        accept = needed | set(accept)
    export_nir(model, tmp_path / "net.nir", accept=accept)
    wanted, found = (content(tmp_path / name) for name in ("needed.nir", "net.nir"))
    assert wanted.keys() == found.keys() != set()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_all_that_nir_cannot_express_is_listed(rng, tmp_path):
    source = networks.randomize(
        chain(
            (8, 8, 2),
            layers.Conv2D(3, 3, **RELU, name="conv"),
            layers.MaxPooling2D(2, name="pool"),
            layers.UpSampling2D(2, name="up"),
            layers.Conv2DTranspose(2, 3, **RELU, name="back"),
            layers.Permute((2, 1, 3), name="turn"),
            layers.Conv2D(2, 3, **RELU, name="last"),
            layers.Flatten(),
            layers.Dense(2),
        ),
        rng,
    )
    x = networks.data_for(source, rng)
    snn = keras_snn.convert(source, x, verbose=0)
    with pytest.raises(ExportError) as refused:
        export_nir(snn, tmp_path / "net.nir", accept=EVERYTHING)
    text = str(refused.value)
    assert "has 4 parts that a NIR file cannot express" in text
    assert "'pool' (Pool): no maximum. Instead: train with average pooling" in text
    assert "'up' (Rearrange): NIR has no node that repeats values" in text
    assert "'back' (Affine): no transposed convolution" in text
    assert "'last' (Affine): a convolution of values that were moved in space" in text
    snn = keras_snn.convert(source, x, neuron=MultiThreshold(), softmax="potential", verbose=0)
    with pytest.raises(ExportError, match=r"has 7 parts(.|\n)*'conv' \(Spike\): no MultiThreshold neurons"):
        export_nir(snn, tmp_path / "net.nir", accept=EVERYTHING)
    snn = keras_snn.convert(source, x, input_encoding="poisson", seed=1, verbose=0)
    with pytest.raises(ExportError, match="no random numbers. Instead: convert with input_encoding='events'"):
        export_nir(snn, tmp_path / "net.nir", accept=EVERYTHING)


def test_a_failed_export_leaves_the_old_file(rng, tmp_path, monkeypatch):
    snn, _ = dyadic_snn("dense", rng)
    path = tmp_path / "net.nir"
    path.write_text("old")

    def fails(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(nir, "write", fails)
    with pytest.raises(OSError, match="disk full"):
        export_nir(snn, path, accept=EVERYTHING)
    assert [p.name for p in tmp_path.iterdir()] == ["net.nir"]
    assert path.read_text() == "old"


def test_wrong_arguments_are_named(rng, tmp_path):
    snn, _ = dyadic_snn("dense", rng)
    path = tmp_path / "net.nir"
    for arguments, message in (
        ({"dt": 0}, "`dt` must be finite and above 0. Received: dt=0."),
        (
            {"accept": "all"},
            "`accept` must be one of 'reset', 'threshold', 'initial_potential'. Received: accept='all'",
        ),
        (
            {"pooling": "max"},
            "`pooling` must be one of 'sum', 'average', 'convolution'. Received: pooling='max'",
        ),
        ({"output": "rate"}, "`output` must be one of 'current', 'spikes'. Received: output='rate'"),
        (
            {"output_threshold": -1},
            "`output_threshold` must be finite and above 0. Received: output_threshold=-1.",
        ),
    ):
        with pytest.raises(ValueError) as wrong:
            export_nir(snn, path, **arguments)
        assert message in str(wrong.value)
    with pytest.raises(TypeError, match="`model` must be a SpikingModel. Received: Sequential"):
        export_nir(chain((2,), layers.Dense(1)), path)
    with pytest.raises(ValueError, match="must be in a folder that exists. Received: path='.*no.net.nir'"):
        export_nir(snn, tmp_path / "no" / "net.nir")
    with pytest.raises(ValueError, match="must name a NIR file. Received: path='.*net.nir', no such file."):
        import_nir(path)
    path.write_text("text")
    with pytest.raises(ValueError, match=r"must name a NIR file. Received: path='.*net.nir' \("):
        import_nir(path)


def test_without_the_package_one_error_names_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "nir", None)
    for call in (lambda: export_nir(None, tmp_path / "a"), lambda: import_nir(tmp_path / "a")):
        with pytest.raises(ImportError, match=r"need the package nir.*pip install 'keras-snn\[nir\]'"):
            call()


# --- Files of others ------------------------------------------------------------


def write(path, *nodes, edges=None, names=None, metadata=None):
    names = names or ["input", *(f"n{i}" for i in range(len(nodes) - 2)), "output"]
    edges = edges or list(itertools.pairwise(names))
    graph = nir.NIRGraph(
        dict(zip(names, nodes, strict=True)), edges, metadata=metadata or {}, type_check=False
    )
    nir.write(path, graph)
    return graph


def ends(first, last):
    return nir.Input(np.array(first)), nir.Output(np.array(last))


def eighths(rng, *shape):
    return (rng.integers(-8, 9, shape) / 8).astype("float32")


def test_import_follows_the_text_and_names_what_it_assumed(rng, tmp_path):
    first, last = ends((3, 6, 5), (4,))
    n = lambda shape, low, high: (rng.integers(low, high, shape) / 8).astype("float32")  # noqa: E731
    shape = (4, 3, 4)
    graph = write(
        tmp_path / "theirs.nir",
        first,
        nir.Conv2d((6, 5), eighths(rng, 4, 3, 3, 2), (2, 1), (1, 0), (1, 1), 1, eighths(rng, 4)),
        # A threshold that is reached exactly now and then, and a reset from which it takes longer.
        nir.IF(np.full(shape, 2.0, "float32"), np.ones(shape, "float32"), np.full(shape, -0.5, "float32")),
        nir.SumPool2d(np.array([2, 2]), np.array([2, 1]), np.array([1, 0])),
        nir.Scale(n((4, 2, 3), 1, 9)),
        nir.Flatten({"input": np.array([4, 2, 3])}, 0, -1),
        nir.Linear(eighths(rng, 5, 24)),
        # Each its own threshold, a power of two so that all stays exact.
        nir.IF(
            np.full(5, 2.0, "float32"),
            (2.0 ** rng.integers(-1, 2, 5)).astype("float32"),
            np.zeros(5, "float32"),
        ),
        nir.Affine(eighths(rng, 4, 5), eighths(rng, 4)),
        last,
    )
    with pytest.warns(UserWarning, match="lacks") as caught:
        model = import_nir(tmp_path / "theirs.nir", timesteps=12)
    (warning,) = [str(w.message) for w in caught]
    assert "'theirs.nir' lacks" in warning
    for what in ("reset='zero'", "above the threshold", "dt=0.5"):
        assert what in warning
    x = rng.integers(0, 5, (4, 6, 5, 3)) / 4
    counts, sums = nir_reference.run(graph, channels_first(x), 12, reset="zero", at_threshold=False, dt=0.5)
    run = model.simulate(x, record=["spike_counts"], verbose=0)
    for (name, count), ours in zip(counts.items(), run.spike_counts.values(), strict=True):
        np.testing.assert_array_equal(np.moveaxis(ours, -1, 1), count, err_msg=name)
        assert count.sum() > 0
    np.testing.assert_allclose(run.outputs, sums["output"] / 12, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_leaky_neurons_import_in_steps_of_their_time_constant(reset, rng, tmp_path):
    first, last = ends((4,), (3,))
    fill = lambda value: np.full(5, value, "float32")  # noqa: E731
    graph = write(
        tmp_path / "lif.nir",
        first,
        nir.Affine(eighths(rng, 5, 4), eighths(rng, 5)),
        nir.LIF(tau=fill(0.5), r=fill(4.0), v_leak=fill(0.25), v_threshold=fill(1.0), v_reset=fill(0.0)),
        nir.Affine(eighths(rng, 3, 5), eighths(rng, 3)),
        last,
    )
    if reset == "subtract":
        model = import_nir(tmp_path / "lif.nir", timesteps=8, reset=reset, initial_potential=0.5, dt=0.125)
    else:
        with pytest.warns(UserWarning, match=r"dt=0\.125"):
            model = import_nir(tmp_path / "lif.nir", timesteps=8)
    x = rng.integers(0, 5, (6, 4)) / 4
    start = 0.5 if reset == "subtract" else 0.0
    counts, _ = nir_reference.run(
        graph, x, 8, reset=reset, start=start, at_threshold=reset == "subtract", dt=0.125
    )
    (ours,) = model.simulate(x, record=["spike_counts"], verbose=0).spike_counts.values()
    np.testing.assert_array_equal(ours, counts["n1"])
    assert 0 < counts["n1"].sum() < counts["n1"].size * 8


def test_all_that_cannot_be_imported_is_listed(rng, tmp_path):
    first, last = ends((3,), (3,))
    write(
        tmp_path / "odd.nir",
        first,
        nir.LI(*(np.ones(3),) * 3),
        nir.Delay(np.ones(3)),
        nir.IF(np.ones(3), np.arange(1.0, 4), np.arange(3.0) / 8),
        last,
    )
    with pytest.raises(UnsupportedLayerError) as refused:
        import_nir(tmp_path / "odd.nir")
    text = str(refused.value)
    assert "'n0' (LI): not supported" in text
    write(
        tmp_path / "loop.nir",
        first,
        nir.Affine(np.eye(3), np.zeros(3)),
        nir.IF(np.ones(3), np.ones(3), np.zeros(3)),
        last,
        edges=[("input", "n0"), ("n0", "n1"), ("n1", "n0"), ("n1", "output")],
    )
    with pytest.raises(
        UnsupportedLayerError, match="no recurrent edges, which are not supported. Received: n"
    ):
        import_nir(tmp_path / "loop.nir")


def test_graphs_in_graphs_import(rng, tmp_path):
    w = eighths(rng, 3, 4), eighths(rng, 2, 3)
    inner = nir.NIRGraph(
        {
            "input": nir.Input(np.array([4])),
            "w": nir.Affine(w[0], np.zeros(3, "float32")),
            "if": nir.IF(np.ones(3), np.ones(3), np.zeros(3)),
            "output": nir.Output(np.array([3])),
        },
        [("input", "w"), ("w", "if"), ("if", "output")],
    )
    first, last = ends((4,), (2,))
    write(tmp_path / "nested.nir", first, inner, nir.Linear(w[1]), last)
    model = import_nir(tmp_path / "nested.nir", reset="subtract", initial_potential=0.0, dt=1.0, timesteps=5)
    x = rng.integers(0, 5, (3, 4)) / 4
    v, total = 0.0, 0.0
    for _ in range(5):
        v = v + x @ w[0].T
        spikes = v >= 1
        v, total = v - spikes, total + spikes @ w[1].T
    np.testing.assert_allclose(model.predict(x, verbose=0), total / 5, atol=1e-6)


def test_old_and_new_readers_read_the_same_file(rng, tmp_path):
    """The oldest reader that is pinned anywhere builds each node from exactly the data sets of its fields."""
    snn, _ = dyadic_snn("residual", rng)
    export_nir(snn, tmp_path / "net.nir", accept=EVERYTHING)
    fields = {
        "Conv2d": {"input_shape", "weight", "stride", "padding", "dilation", "groups", "bias"},
        "Affine": {"weight", "bias"},
        "Scale": {"scale"},
        "IF": {"r", "v_threshold", "metadata"},
        "SumPool2d": {"kernel_size", "stride", "padding"},
        "Flatten": {"start_dim", "end_dim", "input_type"},
        "Input": {"shape"},
        "Output": {"shape"},
    }
    with h5py.File(tmp_path / "net.nir") as file:
        for node in file["node/nodes"].values():
            kind = node["type"][()].decode()
            assert set(node) - {"type"} == fields[kind], kind


@pytest.mark.parametrize(
    ("client", "reset"),
    [("spikingjelly", "zero"), ("sinabs", "subtract"), ("norse", "zero"), ("snntorch", "subtract")],
)
def test_files_that_simulators_wrote_fire_what_they_fired(client, reset):
    """`benchmarks/nir_files.py` wrote them, with the counts of the simulator itself."""
    files = pathlib.Path(__file__).parent / "files"
    with np.load(files / f"{client}.npz") as arrays:
        x, counts, timesteps = arrays["x"], arrays["counts"], int(arrays["timesteps"])
    given = {} if reset == "zero" else {"reset": reset}
    # What is subtracted is the threshold, so there is no choice about ties.
    lacking = "initial_potential, dt" if given else "reset, threshold, initial_potential, dt"
    with pytest.warns(UserWarning, match=f"'{client}.nir' lacks {lacking}. Assumed:"):
        model = import_nir(files / f"{client}.nir", timesteps=timesteps, **given)
    np.testing.assert_array_equal(np.round(model.predict(x, verbose=0) * timesteps), counts)
    assert counts.sum() > 10


def test_a_file_is_not_named_as_another_format(rng, tmp_path):
    snn, _ = dyadic_snn("dense", rng)
    for suffix in (".onnx", ".tflite", ".keras"):
        with pytest.raises(ValueError, match=f"`path` must end in .nir. Received: .*net{suffix}"):
            export_nir(snn, tmp_path / f"net{suffix}", accept=EVERYTHING)
    with pytest.raises(TypeError, match="`accept` must be names of differences. Received: accept=None"):
        export_nir(snn, tmp_path / "net.nir", accept=None)
    assert not list(tmp_path.iterdir())
