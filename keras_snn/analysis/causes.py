"""What a diagnosis means: the most likely cause of a loss and what to do about it, as sentences."""

import dataclasses

__all__ = ["Agreement", "find_causes", "good_news", "steps_that_suffice"]

# Less is not called a loss: a few samples more or less.
_LOSS = 0.005
_MANY_SATURATED = 0.01
_ALMOST_ALL = 0.999
# Factor between means of activations, from which on data is not like that which a network was calibrated on.
_UNLIKE = 5
# What to try, one after the other.
_PERCENTILES = (99.0, 99.9, 99.99, 100.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Agreement:
    """How a classifier and its source network do on the same samples.

    Attributes:
        agreement_over_time: Fraction of samples that both put into the same class, `(timesteps,)`.
        accuracy_over_time: Fraction of samples that the SNN puts into the right class, or `None`.
        ann_accuracy: The same of the source network, or `None`.
        labels: Number of labels of a sample that are each a yes or no; the fractions are then of samples and
            labels. 1 where a sample has one class.
        confusion: How many samples of each class, a row each, were put into which, a column each; where a
            sample has several labels that of each, `(labels, 2, 2)`. `None` without labels.
        top_5_accuracy: Fraction of samples whose class is among the five largest outputs of the SNN; `None`
            without labels or with few classes.
        ann_top_5_accuracy: The same of the source network.
    """

    agreement_over_time: object
    accuracy_over_time: object = None
    ann_accuracy: float | None = None
    labels: int = 1
    confusion: object = None
    top_5_accuracy: float | None = None
    ann_top_5_accuracy: float | None = None

    @property
    def loss(self) -> float:
        """What the conversion costs: in accuracy, or in agreement where no labels are known."""
        if self.ann_accuracy is None:
            return 1 - self.agreement_over_time[-1]
        return self.ann_accuracy - self.accuracy_over_time[-1]


def steps_that_suffice(agreement):
    """Return the first step from which on the network is about as good as at the last one."""
    curve = agreement.accuracy_over_time
    curve = agreement.agreement_over_time if curve is None else curve
    worse = [step for step, value in enumerate(curve, start=1) if value < curve[-1] - _LOSS / 2]
    return max(worse, default=0) + 1


def good_news(agreement):
    """Return what needs no care, as sentences: that nothing is lost, and that fewer steps would do.

    Args:
        agreement: An `Agreement`, or `None` if the model does not classify.
    """
    if agreement is None or agreement.loss > _LOSS:
        return []
    return ["The conversion loses no accuracy worth mentioning.", *_spare_steps(agreement)]


def find_causes(diagnosis, agreement, options):
    """Return what most likely costs accuracy, as sentences: what makes the others meaningless comes first.

    Args:
        diagnosis: A `Diagnosis`.
        agreement: An `Agreement`, or `None` if the model does not classify.
        options: Dict of the options that the model was converted with; may be empty.
    """
    silent = [f"'{layer.name}'" for layer in diagnosis.layers if layer.silent >= _ALMOST_ALL]
    notes = _other_data(diagnosis)
    if silent:
        notes.append(
            f"Almost no neuron of {', '.join(silent)} ever spikes: check that the data is scaled as for "
            "training and that the calibration data was like it."
        )
    if options.get("calibrated") is False:
        notes.append(
            "The scales were estimated without data: convert again with some hundred training samples as "
            "`calibration_data`."
        )
    if good_news(agreement):
        return [*notes, *good_news(agreement)]
    if diagnosis.worst is None:
        return notes
    cause = _cause_in(diagnosis.worst, diagnosis.timesteps, options)
    saturation = [] if "saturates" in cause else _saturation(diagnosis, options)
    return [*notes, cause, *saturation]


def _other_data(diagnosis):
    """Return that the first layer with neurons has other activations than on the calibration data, if so."""
    for layer in diagnosis.layers[:1]:
        if layer.calibrated and not 1 / _UNLIKE < layer.activation / layer.calibrated < _UNLIKE:
            times = f"{layer.activation / layer.calibrated:.2g} times those on the calibration data"
            return [f"The activations of '{layer.name}' are {times}: scale all data as for training."]
    return []


def _spare_steps(agreement):
    enough, steps = steps_that_suffice(agreement), len(agreement.agreement_over_time)
    if enough > steps // 2:
        return []
    return [f"{enough} instead of {steps} time steps would do: set timesteps={enough} for fewer operations."]


def _cause_in(layer, timesteps, options):
    """Return what the layer with the largest error of its own suffers from."""
    part = max(("clipping", "quantisation", "unevenness"), key=lambda name: getattr(layer, name).relative)
    size = f"an error of {getattr(layer, part).relative:.1%} (RMS)"
    where = f"Layer '{layer.name}' adds the largest error"
    if part == "clipping":
        saturates = f"it saturates in {layer.saturated:.1%} of its neurons and clips them, {size}"
        return f"{where}: {saturates}. {_raise_scale(options)}"
    where = f"{where}, most of it by {part}, {size}"
    if part == "quantisation" and layer.neuron.is_time_code:
        return f"{where}: {layer.neuron.code.levels} levels are too few for it.{_more_levels(layer)}"
    if part == "quantisation":
        rates = f"after {timesteps} steps rates are only {layer.neuron.rates_as_text(timesteps)}"
        return f"{where}: {rates}. Simulate longer, {_longer(timesteps)}."
    if "reset='zero'" in str(options.get("neuron")):
        return f"{where}: reset to zero loses what is above the threshold. Convert with reset='subtract'."
    if options.get("input_encoding") == "poisson":
        return f"{where}: its input spikes are random. Convert with input_encoding='current'."
    longer = f"Simulate longer, {_longer(timesteps)}, or convert with readout_delay='auto' or a `delay`"
    return f"{where}: spikes arrive too early or too late. {longer}."


def _more_levels(layer):
    code = layer.neuron.code
    finer = next((neuron for neuron, _ in code.precisions() if neuron.levels > code.levels), None)
    if finer is None:
        return ""
    return f" Convert with more, as neuron={finer!r}, or give it to this layer alone by `layer_options`."


def _saturation(diagnosis, options):
    # Neurons that clip nothing may be at their largest rate, as binary ones always are.
    clipping = [layer for layer in diagnosis.layers if layer.clipping.largest]
    layer = max(clipping, key=lambda layer: layer.saturated, default=None)
    if layer is None or layer.saturated < _MANY_SATURATED:
        return []
    fires = f"saturates in {layer.saturated:.1%} of its neurons, which fire as much as they can"
    return [f"Layer '{layer.name}' {fires}. {_raise_scale(options)}"]


def _raise_scale(options):
    percentile = options.get("percentile")
    if options.get("normalization") in ("mse", "ltb"):
        return "Convert with normalization='max', or calibrate on more data, like that which it will see."
    if percentile is None or percentile >= 100:
        return "Calibrate on more data, like that which it will see."
    higher = next(value for value in _PERCENTILES if value > percentile)
    return f"Raise `percentile` from {percentile:g} to {higher:g}, or convert with normalization='max'."


def _longer(timesteps):
    return f"for example timesteps={2 * timesteps}"
