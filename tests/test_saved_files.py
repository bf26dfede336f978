"""Models saved by an earlier version load and give the same; see tests/files/README.md."""

import pathlib

import keras
import numpy as np
import pytest

import keras_snn

FOLDER = pathlib.Path(__file__).parent / "files"
NAMES = sorted(path.stem for path in FOLDER.glob("*.keras"))
RESULTS = np.load(FOLDER / "results.npz")
# Exponentials are rounded otherwise on other backends.
HAVE_EXPONENTIALS = ("softmax_potential", "network_several")
# A read-out divides by the steps that count, which rounds, and JAX multiplies by the reciprocal.
ROUNDING = 2.0**-22


def known(name, what):
    """Return the arrays of a file that go by a name, by what comes after it; `""` of one array."""
    first = f"{name}:{what}"
    keys = [key for key in RESULTS.files if key == first or key.startswith(f"{first}:")]
    return {key[len(first) + 1 :]: RESULTS[key] for key in keys}


def inputs(name):
    arrays = known(name, "x")
    if set(arrays) == {""}:
        return arrays[""]
    in_list = all(key.isdigit() for key in arrays)
    return [arrays[key] for key in sorted(arrays)] if in_list else arrays


def assert_known(name, what, values):
    """Arrays, alone, in a list or in a dict, are those of the file, bit for bit where that is exact."""
    if isinstance(values, (list, tuple)):
        values = {str(i): value for i, value in enumerate(values)}
    values = values if isinstance(values, dict) else {"": values}
    expected = known(name, what)
    assert values.keys() == expected.keys()
    for key, value in values.items():
        wanted = expected[key]
        if value.dtype.name == "bfloat16":
            value = value.astype("float32")
        assert value.dtype == wanted.dtype
        if what == "spike_counts" or is_exact(name):
            # Of eight steps those that read-outs divide by a power of two.
            exact = (slice(None), [0, 1, 3, 7]) if what == "over_time" else ()
            np.testing.assert_array_equal(value[exact], wanted[exact], err_msg=f"{what} {key}")
        tolerance = 1e-6 if name in HAVE_EXPONENTIALS else 0
        np.testing.assert_allclose(value, wanted, rtol=ROUNDING, atol=tolerance, err_msg=f"{what} {key}")


def is_exact(name):
    return name not in HAVE_EXPONENTIALS and name != "option_readout_delay"


def test_all_files_are_there():
    assert len(NAMES) > 40
    assert {key.split(":")[0] for key in RESULTS.files} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_gives_what_it_gave(name):
    """Spike counts bit for bit on every backend, of random encoders and before random softmaxes too.

    So are outputs, what random softmaxes fire among them, but for exponentials and divisions.
    """
    model, x = keras.models.load_model(FOLDER / f"{name}.keras"), inputs(name)
    samples = len(keras.tree.flatten(x)[0])
    assert_known(name, "predict", model.predict(x, batch_size=samples, verbose=0))
    if isinstance(model, keras_snn.SpikingModel):
        run = model.simulate(x, record="spike_counts")
        assert_known(name, "over_time", run.outputs_over_time)
        assert_known(name, "spike_counts", run.spike_counts)
        assert model.conversion_report.layers
    else:
        # A layer that keeps its state goes on.
        assert_known(name, "again", model.predict(x, batch_size=samples, verbose=0))
