"""Sums that no relu rectifies go into weights as spikes of two sets of neurons, where that pays."""

import dataclasses
import functools

import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_snn
from keras_snn.analysis.input_shares import input_shares
from keras_snn.conversion import rate_relays
from keras_snn.graph import nodes as kinds
from keras_snn.graph.lowering import lower
from keras_snn.graph.numpy_reference import evaluate
from keras_snn.graph.passes import fold
from keras_snn.simulation.source import program_of

conv = functools.partial(layers.Conv2D, padding="same")


def _residual(x):
    for i in range(2):
        y = conv(4, 3, name=f"second_{i}")(conv(4, 3, activation="relu")(x))
        x = layers.Add(name=f"sum_{i}")([x, y])
    return x


def _averages(x):
    return layers.AveragePooling2D(2, 1, padding="same", name="average")(x)


def _maxout(x):
    return layers.Maximum()([conv(4, 3)(x), conv(4, 3)(x)])


def _grouped(x):
    return layers.DepthwiseConv2D(3, padding="same", name="depthwise")(_residual(x))


PARTS = {"residual": _residual, "averages": _averages, "maxout": _maxout, "grouped": _grouped}


def _model(part, rng, before=lambda x: x):
    inputs = keras.Input((6, 6, 2))
    x = conv(4, 3, activation="relu", name="head")(before(inputs))
    x = conv(8, 3, activation="relu", name="last", groups=2)(part(x))
    outputs = layers.Dense(3, name="out")(layers.Flatten()(x))
    return networks.randomize(keras.Model(inputs, outputs), rng)


def _converted(model, x, **options):
    given = {"timesteps": 8, "bias_correction": False, "readout_weighting": "uniform"}
    return keras_snn.convert(model, x, **{**given, "dtype": "float64", "verbose": 0, **options})


def _numbers(snn):
    return {path for path, shares in input_shares(program_of(snn)).items() if shares.numbers}


@pytest.fixture(params=PARTS)
def model(request, rng):
    return _model(PARTS[request.param], rng)


def test_relays_keep_the_function_and_leave_no_trace(model, rng):
    x = rng.normal(size=(3, 6, 6, 2))
    graph = fold(lower(model))
    relayed, relays = rate_relays.with_all_relays(graph)
    assert relays
    np.testing.assert_allclose(evaluate(relayed, x), evaluate(graph, x), rtol=1e-5, atol=1e-6)
    paying, _ = rate_relays.with_paying_relays(graph, {})
    np.testing.assert_allclose(evaluate(paying, x), evaluate(graph, x), rtol=1e-5, atol=1e-6)
    without = rate_relays.without_relays(relayed, relays)
    assert without.nodes.keys() == graph.nodes.keys()
    assert all(without.nodes[name].inputs == node.inputs for name, node in graph.nodes.items())


def test_relays_send_spikes_and_count_as_no_layer(model, rng):
    """The weights of the source network count once, and its values that are not 0 as without relays."""
    x = rng.normal(size=(6, 6, 6, 2))
    snn, numbers = (_converted(model, x, relays=given) for given in (True, False))
    assert not _numbers(snn)
    of_both = [keras_snn.count_operations(one, x, verbose=0) for one in (snn, numbers)]
    assert len({counts.ann_operations for counts in of_both}) == 1
    np.testing.assert_allclose(*(counts.zero_skipping_operations for counts in of_both), rtol=1e-9)


def test_errors_of_relays_fall_as_one_over_t(rng):
    model, x = _model(_residual, rng), rng.normal(size=(4, 6, 6, 2))
    snn = _converted(model, x, relays=True, normalization="max")
    expected, errors = model.predict(x, verbose=0), []
    for timesteps in (8, 64):
        snn.timesteps = timesteps
        errors.append(np.sqrt(np.mean((snn.predict(x, verbose=0) - expected) ** 2)))
    assert errors[1] < errors[0] / 4


def test_relays_run_the_same_on_events_and_with_integers(model, rng):
    x = rng.normal(size=(4, 6, 6, 2)).astype("float32")
    snn = _converted(model, x, relays=True, weight_bits=8, dtype="float32")
    outputs = snn.predict(x, verbose=0)
    snn.engine = "events"
    np.testing.assert_array_equal(snn.predict(x, verbose=0), outputs)


def test_what_cannot_be_negative_has_one_set_of_neurons(model, rng):
    graph = fold(lower(model))
    x = rng.normal(size=(20, 6, 6, 2))
    _, relays = rate_relays.with_all_relays(graph)
    for name, relay in relays.items():
        smallest = evaluate(dataclasses.replace(graph, outputs=name), x).min()
        assert (len(relay.sides) == 1) == (smallest >= 0)


def test_relays_are_where_they_need_fewer_operations(rng):
    """Counted on the calibration data: few weights do not pay for the updates of neurons."""
    found = set()
    for units in (1, 40):
        inputs = keras.Input((6, 6, 2))
        x = layers.Flatten()(_averages(conv(4, 3, activation="relu")(inputs)))
        model = networks.randomize(keras.Model(inputs, layers.Dense(units, name="dense")(x)), rng)
        x = rng.normal(size=(32, 6, 6, 2))
        snns = {given: _converted(model, x, relays=given, timesteps=64) for given in ("auto", True, False)}
        needed = {
            given: keras_snn.count_operations(snn, x, verbose=0).operations_with_updates
            for given, snn in snns.items()
        }
        assert needed["auto"] == min(needed.values())
        hint = "'dense' takes numbers: put the relu after 'average', which averages"
        assert (hint in str(keras_snn.check(model, x))) == (units == 1)
        reasons = snns["auto"].conversion_report.options.get("sums_as_numbers", {})
        assert ("average" in reasons) == bool(_numbers(snns["auto"])) == (needed[False] < needed[True])
        found.add("average" in reasons)
    assert found == {True, False}


@pytest.mark.parametrize(("blocks", "units"), [(1, 4), (1, 4000), (40, 4)])
def test_relays_spare_a_twentieth_together(blocks, units, rng):
    """Of many blocks none does alone; of one beside a large layer it is too little."""
    inputs = x = keras.Input((16,))
    x = layers.Dense(16, activation="relu")(x)
    for _ in range(blocks):
        x = layers.Add()([x, layers.Dense(16)(layers.Dense(16, activation="relu")(x))])
    x = layers.Dense(units, activation="relu")(layers.Dense(16, activation="relu")(x))
    graph = fold(lower(networks.randomize(keras.Model(inputs, layers.Dense(4)(x)), rng)))
    relayed, _ = rate_relays.with_paying_relays(graph, {})
    relays = len(relayed.nodes.keys() - graph.nodes.keys()) > 0
    assert relays == (units == 4)


def test_networks_that_send_only_spikes_stay_as_they_were(rng):
    def rectified(x):
        y = conv(4, 3)(conv(4, 3, activation="relu")(x))
        return layers.MaxPooling2D(2, 1)(layers.ReLU()(layers.Add()([x, y])))

    model, x = _model(rectified, rng), rng.normal(size=(6, 6, 6, 2))
    auto, without = (_converted(model, x, relays=given) for given in ("auto", False))
    assert program_of(auto) == program_of(without)
    assert "sums_as_numbers" not in auto.conversion_report.options


@pytest.mark.filterwarnings("error:Silent on all calibration data")
def test_a_sum_may_have_one_sign_on_all_data(rng):
    """Its other side has the same scale, as other data may reach it, and is nothing to warn of."""
    model = _model(_residual, rng)
    for i in range(2):
        kernel, bias = model.get_layer(f"second_{i}").weights
        weights = np.abs(kernel.numpy())
        weights[0, 0] = -1e-7
        kernel.assign(weights)
        bias.assign(np.abs(bias.numpy()) + 0.1)
    x = np.abs(rng.normal(size=(6, 6, 6, 2)))
    snn = _converted(model, x, relays=True)
    nodes = program_of(snn).graph.nodes
    scales = {name: node.scale for name, node in nodes.items() if isinstance(node, kinds.Spike)}
    for i in range(2):
        positive, negative = (scales[name] for name in scales if name.startswith(f"sum_{i}_relay"))
        assert positive == negative != 1
    assert not snn.conversion_report.silent_layers


def test_layers_may_choose_relays(rng):
    model, x = _model(_residual, rng), rng.normal(size=(6, 6, 6, 2))
    for pattern, others in (("sum_0", "auto"), ("sum_1", True)):
        snn = _converted(model, x, relays=others, layer_options={pattern: {"relays": False}})
        assert snn.conversion_report.options["sums_as_numbers"] == {pattern: "as asked for"}
    snn = _converted(model, x, relays=False, layer_options={"sum_1": {"relays": True}})
    assert "sum_0" in snn.conversion_report.options["sums_as_numbers"]
    assert not {"last"} & _numbers(snn)


def test_a_relay_that_groups_of_weights_cannot_take_is_left_out(rng):
    """A group takes spikes alone and another one both sides of a sum: there is no such convolution."""
    model = _model(lambda x: layers.Concatenate()([x, _grouped(x)]), rng)
    snn = _converted(model, rng.normal(size=(6, 6, 6, 2)), relays=True)
    assert _numbers(snn) == {"last"}
    assert list(snn.conversion_report.options["sums_as_numbers"]) == ["depthwise"]
    assert not any(layer.name.startswith("depthwise_relay") for layer in snn.layers)


def test_check_with_data_gives_the_shares_that_convert_has(model, rng):
    x = rng.normal(size=(32, 6, 6, 2)).astype("float32")
    shares = input_shares(program_of(keras_snn.convert(model, x, verbose=0)))
    assert {v.path: str(v.takes) for v in keras_snn.check(model, x).verdicts if v.takes} == {
        path: str(one) for path, one in shares.items()
    }


def test_settings_of_publications_have_no_relays_unless_asked_for(rng):
    model, x = _model(_residual, rng), rng.normal(size=(6, 6, 6, 2))
    for preset in ("rueckauer2016", "rueckauer2017"):
        assert _numbers(_converted(model, x, preset=preset, normalization="max"))
    assert not _numbers(_converted(model, x, preset="rueckauer2017", relays=True))


@pytest.mark.parametrize("neuron", ["burst", keras_snn.neurons.IntegrateAndFire(reset="zero")], ids=str)
def test_convert_raises_when_neurons_cannot_relay(neuron, rng):
    model, x = _model(_residual, rng), rng.normal(size=(6, 6, 6, 2))
    with pytest.raises(ValueError, match="`relays` needs neurons 'if' that are reset by subtraction"):
        _converted(model, x, neuron=neuron, relays=True)
    assert _numbers(_converted(model, x, neuron=neuron))


def test_few_steps_of_trained_levels_stay_exact_unless_relays_are_asked_for(rng):
    levels = keras_snn.layers.QuantizedClip
    inputs = keras.Input((6, 6, 2))
    x = layers.AveragePooling2D(2, 1)(levels(4)(conv(4, 3)(inputs)))
    outputs = layers.Dense(3)(layers.Flatten()(levels(4)(conv(4, 3)(x))))
    model, x = networks.randomize(keras.Model(inputs, outputs), rng), rng.normal(size=(6, 6, 6, 2))
    for given in ("auto", True):
        snn = _converted(model, x, relays=given)
        relays = [n for n in program_of(snn).graph.nodes.values() if isinstance(n, kinds.Spike)]
        assert len(relays) == (3 if given is True else 2)
