"""A warning of a conversion that loses much: the cause, and an option that mends it, tried."""

import math
import warnings

import keras

from keras_snn.analysis.causes import find_causes
from keras_snn.analysis.diagnosis import diagnose
from keras_snn.conversion.losses import Judge
from keras_snn.conversion.tuning import first_samples

__all__ = ["warn_of_loss"]

# Samples that are looked at, fewer of which show no loss; and the loss in percent that is warned of.
_SAMPLES, _FEWEST, _MUCH = 64, 32, 25.0
# A network whose layers on their own add up to a smaller error is not simulated for this.
_EXPECTED = 0.3
# More time steps, or levels, to try.
_MORE = 4


def warn_of_loss(model, snn, data, options, convert):
    """Warn in one line if a spiking network loses much on its calibration data: why, and what mends it.

    That is looked at where rounding and clipping of the layers let it be expected, which is known without a
    simulation.

    Args:
        model: The source network.
        snn: Its spiking network.
        data: Calibration data.
        options: `Options` of the conversion.
        convert: Function of other options, which returns another spiking network.
    """
    errors = [layer.error for layer in snn.conversion_report.layers if layer.error is not None]
    if math.hypot(*errors) < _EXPECTED or snn.conversion_report.silent_layers:
        return
    samples = first_samples(snn, data, options.batch_size)
    x = keras.tree.map_structure(lambda array: array[:_SAMPLES], samples)
    number = len(keras.tree.flatten(x)[0])
    if number < _FEWEST:
        return
    judge = Judge(model, x, None, options.batch_size)
    loss = judge.loss_of(snn).mean
    if loss < _MUCH:
        return
    (cause, *_) = find_causes(diagnose(snn, x, batch_size=options.batch_size), None, {}) or [""]
    tried = {label: judge.loss_of(convert(**changed)).mean for label, changed in _ways_out(options)}
    best = min(tried, key=tried.get, default=None)
    way_out = f" With {best} it loses {tried[best]:.1f}." if tried and tried[best] < loss / 2 else ""
    measure, unit = judge.measures(snn).split(", ")
    warnings.warn(
        f"The spiking network loses {loss:.1f} {unit} of {measure}, on {number} samples of the calibration "
        f"data. {cause}{way_out}",
        stacklevel=4,
    )


def _ways_out(options):
    """Yield what may lose less, as text and as changed options."""
    if options.neuron.is_time_code:
        finer = [n for n, _ in options.neuron.precisions() if n.levels >= _MORE * options.neuron.levels]
        for neuron in finer[:1]:
            yield f"neuron={neuron!r}", {"neuron": neuron, "timesteps": None}
    else:
        steps = _MORE * options.timesteps
        yield f"timesteps={steps}", {"timesteps": steps}
    if options.per_channel:
        yield "per_channel=False", {"per_channel": False}
    if options.normalization != "max":
        yield "normalization='max'", {"normalization": "max"}
    if options.neuron.alias == "if":
        yield "neuron='signed'", {"neuron": "signed"}
