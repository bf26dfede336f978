"""Steps after the input has ended, until no neuron fires."""

import dataclasses

from keras_snn.graph import nodes as kinds
from keras_snn.graph.program import with_readouts, without_input
from keras_snn.simulation.building import build
from keras_snn.simulation.source import program_of

__all__ = ["quiet_program", "until_silent", "with_plain_averages"]

# Steps without input after which neurons that still fire will not stop.
_LONGEST = 10_000


def quiet_program(model, timesteps):
    """Return the program of the steps without input, after `timesteps` steps with it.

    Raises:
        ValueError: If an output draws random spikes.
    """
    return without_input(dataclasses.replace(program_of(model), timesteps=timesteps))


def until_silent(step):
    """Yield what a function returns of one step after the other, up to one in which nothing fires.

    Args:
        step: Function `() -> run`; `run["fired"]` is a dict by name of the call, of arrays that are not 0
            where neurons fire, which is left out of what is yielded.

    Raises:
        RuntimeError: If neurons go on firing.
    """
    for _ in range(_LONGEST):
        run = step()
        firing = [name for name, fired in run.pop("fired").items() if fired.any()]
        yield run
        if not firing:
            return
    raise RuntimeError(
        f"Neurons must become silent without input. Received: {', '.join(map(repr, firing))} still fire "
        f"after {_LONGEST} steps. Simulate with settle=False."
    )


def with_plain_averages(model):
    """Return the model whose read-outs weigh all steps alike, as what comes after the input has no number."""
    program = program_of(model)
    readouts = [node for node in program.graph.nodes.values() if isinstance(node, kinds.Readout)]
    if all(node.weighting == "uniform" for node in readouts):
        return model
    # What read-outs add goes with the weights.
    plain = with_readouts(program, weighting="uniform", shift=0.0)
    return build(plain, unroll=model.unroll, name=model.name)
