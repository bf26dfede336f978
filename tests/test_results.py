"""What all results have: a short `repr`, tables in notebooks, plain values and a picture."""

import dataclasses
import html.parser
import io
import json

import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_snn
from keras_snn import _results
from keras_snn.conversion.search_report import Search, Trial


class Cells(html.parser.HTMLParser):
    """Reads the tables of a page back: a list of rows of text for each."""

    def __init__(self, page):
        super().__init__()
        self.tables, self.open = [], False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.open = True

    def handle_endtag(self, tag):
        self.open = self.open and tag not in ("td", "th")

    def handle_data(self, data):
        if self.open:
            self.tables[-1][-1][-1] += data


def results(rng):
    """Yield every result there is, of networks that some of them are empty for."""
    hidden = [layers.Dense(5, activation="relu", name="<b>&[i]"), layers.Dense(3, activation="softmax")]
    model = networks.randomize(keras.Sequential([keras.Input((4,)), *hidden]), rng)
    x = networks.data_for(model, rng)
    y = model.predict(x, verbose=0).argmax(axis=-1)
    snn = keras_snn.convert(model, x, timesteps=4, verbose=0)
    yield snn.conversion_report
    yield keras_snn.check(model)
    refused = keras.Sequential([keras.Input((4, 2)), layers.LSTM(3), layers.Dense(2, activation="relu")])
    yield keras_snn.check(refused)
    yield snn.simulate(x, y, record=["spike_counts"])
    first_spikes = keras_snn.convert(model, x, neuron="ttfs", timesteps=4, verbose=0)
    yield first_spikes.simulate(x, record=["spike_times"])
    yield keras_snn.count_operations(model)
    yield keras_snn.count_operations(snn, x)
    yield keras_snn.diagnose(snn, x)
    yield keras_snn.calibrate_exit(snn, x, y)
    yield keras_snn.report(snn, x, y, path=None)
    yield keras_snn.report(snn, x, path=None)
    summary = keras_snn.summaries.simulate(snn, x, y, record="spike_counts")
    yield summary
    yield keras_snn.summaries.result(snn, summary)
    trials = (
        Trial("'if', 4 steps", 0.5, 1.25, 1234.5, "chosen"),
        Trial("'ttfs'", None, None, None, "unjudged"),
    )
    yield Search(1.0, "accuracy", "operations", 0.95, 100, 400, None, True, "All were tried.", trials)


def test_every_result_is_short_in_a_terminal_a_table_in_a_notebook_and_plain_as_a_dict(rng):
    seen = set()
    for result in results(rng):
        seen.add(type(result))
        assert "\n" not in repr(result)
        assert len(repr(result)) < 160
        assert repr(result).startswith(f"<{type(result).__name__}: ")
        tables = [[[str(cell) for cell in row] for row in table] for table in result.tables()]
        assert Cells(result._repr_html_()).tables == tables
        assert "<b>&" not in result._repr_html_()
        found = result.to_dict()
        assert json.loads(json.dumps(found, allow_nan=False)) == found != {}
    assert seen == {*_results.Result.__subclasses__(), *_results.PlottedResult.__subclasses__()} - {
        _results.PlottedResult
    }


def test_every_result_with_a_picture_draws_it_where_it_is_asked_to(rng):
    figure = pytest.importorskip("matplotlib.figure")
    for result in results(rng):
        if isinstance(result, _results.PlottedResult):
            ax = figure.Figure().subplots()
            assert result.plot(ax=ax) is ax
            assert ax.has_data()
            assert result.plot().get_xlabel() == ax.get_xlabel() != ""


def test_a_dict_has_the_numbers_of_the_result(rng):
    *_, report = (r for r in results(rng) if isinstance(r, keras_snn.SimulationResult))
    found = report.to_dict()
    np.testing.assert_array_equal(np.array(found["outputs"], "float32"), report.outputs)
    assert found["timesteps"] == report.timesteps == 4


def test_what_was_not_computed_is_not_drawn(rng):
    model = networks.randomize(keras.Sequential([keras.Input((4,)), layers.Dense(3, "relu")]), rng)
    with pytest.warns(UserWarning, match="without data"):
        snn = keras_snn.convert(model, timesteps=4, verbose=0)
    with pytest.raises(ValueError, match=r"record=\[\]\. Simulate with y, or record=\['spike_counts'\]"):
        snn.simulate(networks.data_for(model, rng)).plot()
    with pytest.raises(ValueError, match="Convert with calibration_data"):
        snn.conversion_report.plot()


def test_rich_draws_the_tables(rng):
    page = io.StringIO()
    result = next(results(rng))
    pytest.importorskip("rich.console").Console(width=120, file=page).print(result)
    text = page.getvalue()
    assert all(str(cell) in text for row in result.tables()[0] for cell in row)


def test_a_simulation_with_spike_trains_is_drawn_as_the_spikes_of_its_first_sample(rng):
    pytest.importorskip("matplotlib")
    model = networks.randomize(
        keras.Sequential([keras.Input((5,)), layers.Dense(7, "relu", name="first"), layers.Dense(2)]),
        rng,
    )
    x = networks.data_for(model, rng)
    run = keras_snn.convert(model, x, timesteps=6, verbose=0).simulate(x, record=["spike_trains"])
    ax = run.plot()
    assert ax.get_title() == "first, first sample"
    drawn = np.concatenate([marks.get_offsets() for marks in ax.collections])
    steps, neurons = np.nonzero(run.spike_trains["first"][0])
    assert len(steps) > 0
    assert {tuple(place) for place in drawn} == {
        (step + 1, neuron) for step, neuron in zip(steps, neurons, strict=True)
    }


@pytest.mark.parametrize(("cost", "shown"), [(16123456.4, "16,123,456 (4.03)"), (0.25, "0.25 (0.00)")])
def test_a_search_writes_numbers_of_operations_out(cost, shown):
    trials = (Trial("if, 8 steps", 0.0, 0.1, cost, "chosen"),)
    search = Search(1.0, "accuracy", "operations", 0.95, 100, 400, 4e6, True, "All were tried.", trials)
    assert shown in {cell for table in search.tables() for row in table for cell in row}


def test_a_search_is_drawn_as_the_losses_and_costs_of_what_was_judged(rng):
    pytest.importorskip("matplotlib")
    losses, above, costs = (rng.uniform(0, high, 4) for high in (2, 1, 1e4))
    trials = [
        Trial(f"'if', {4 * i} steps", losses[i], losses[i] + above[i], costs[i], "chosen" if i == 2 else "")
        for i in range(4)
    ]
    counted = Search(
        1.0, "error", "spikes", 0.95, 1, 4, None, True, "", (*trials, Trial("'ttfs'", None, None, 3.0, ""))
    )
    ax = counted.plot()
    points = {tuple(bars.lines[0].get_xydata()[0]) for bars in ax.containers}
    assert points == set(zip(costs, losses, strict=True))
    tops = [bars.lines[2][0].get_segments()[0].max(axis=0)[1] for bars in ax.containers]
    np.testing.assert_allclose(tops, losses + above)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "chosen: 'if', 8 steps" in labels
    with pytest.raises(ValueError, match="Allow a larger max_loss"):
        dataclasses.replace(counted, trials=(Trial("'ttfs'", None, None, 3.0, "unjudged"),)).plot()
