"""Spiking neurons: the equations, as small frozen objects over `keras.ops`.

A neuron describes how a membrane potential integrates an input current and when it
spikes. It holds no state: the state is a list of tensors that goes in and comes
out of every step. `Neuron` is their base class; a new neuron is a subclass of it.

Spikes have no derivative. For `fit` each neuron has another one, its surrogate, which is taken
through the reset as well: charge is conserved by gradients too, θ·Σ ds/dz = Σ dz/dz − dV(T)/dz.
"""

from keras_snn.neurons.base import Neuron
from keras_snn.neurons.binary import Binary
from keras_snn.neurons.graded import Burst, MultiThreshold
from keras_snn.neurons.integrate_and_fire import IntegrateAndFire, LeakyIntegrateAndFire
from keras_snn.neurons.lookup import get, names
from keras_snn.neurons.signed import SignedIntegrateAndFire
from keras_snn.neurons.time_codes import DigitCode, TimeCode, TimeToFirstSpike
from keras_snn.neurons.wrappers import Corrected, Delayed

__all__ = [
    "Binary",
    "Burst",
    "Corrected",
    "Delayed",
    "DigitCode",
    "IntegrateAndFire",
    "LeakyIntegrateAndFire",
    "MultiThreshold",
    "Neuron",
    "SignedIntegrateAndFire",
    "TimeCode",
    "TimeToFirstSpike",
    "get",
    "names",
]
