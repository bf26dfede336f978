"""What becomes of a model by how it runs on the calibration data: corrections, integers, the read-out."""

from keras_snn.conversion.bases import choose_bases
from keras_snn.conversion.correction import correct
from keras_snn.conversion.integers import with_integers
from keras_snn.conversion.tuning import choose_readout_delay, choose_readout_weighting
from keras_snn.graph.integers import with_whole_numbers
from keras_snn.graph.program import with_readouts, with_shifts
from keras_snn.simulation.building import rebuilt
from keras_snn.simulation.source import program_of

__all__ = ["refined"]


def refined(snn, data, options, options_of):
    """Return the model with what is chosen by how it runs on the calibration data."""
    if data is None:
        return snn
    on_data = {"batch_size": options.batch_size, "verbose": options.verbose}
    if options.readout_delay == "auto":
        chosen = choose_readout_delay(snn, data, **on_data)
        snn = rebuilt(snn, with_readouts(program_of(snn), delay=chosen), readout_delay=chosen)
    if any(len(one.neuron.alternatives) > 1 for one in options_of.values()):
        snn = rebuilt(snn, choose_bases(snn, data, **on_data))
    if options.weight_bits is not None and options.input_encoding == "current":
        return _of_integers(snn, data, options, on_data)
    if options.correction:
        snn = rebuilt(snn, correct(snn, data, variant=options.correction, **on_data))
    if options.weight_bits is not None:
        # Averages of events, on which it would be corrected, are no integers.
        snn = with_integers(snn, options.weight_bits, data, batch_size=options.batch_size)
    if options.chooses_weighting:
        corrects = bool(options.correction)
        chosen, shifts = choose_readout_weighting(snn, data, corrects=corrects, **on_data)
        if chosen == "linear":
            program = with_shifts(with_readouts(program_of(snn), weighting=chosen), shifts)
            snn = rebuilt(snn, program, readout_weighting=chosen)
    return snn


def _of_integers(snn, data, options, on_data):
    """Return the model with integers, whose correction makes up for what rounding of weights does, too."""
    integers = with_integers(snn, options.weight_bits, data, batch_size=options.batch_size)
    if not options.correction:
        return integers
    corrected = correct(integers, data, variant=options.correction, source=snn, **on_data)
    return rebuilt(integers, with_whole_numbers(corrected))
