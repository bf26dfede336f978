"""One integrate-and-fire neuron: a constant current becomes a firing rate.

python examples/01_one_neuron.py
"""

import argparse

import numpy as np

from keras_snn.layers import SpikingActivation
from keras_snn.neurons import IntegrateAndFire


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--current", type=float, default=0.3, help="input current, 1 is the threshold")
    parser.add_argument("--timesteps", type=int, default=30)
    options = parser.parse_args()
    current = np.full((1, options.timesteps, 1), options.current, "float32")
    for reset in ("subtract", "zero"):
        neuron = IntegrateAndFire(reset=reset)
        layer = SpikingActivation("relu", neuron=neuron, return_state=True)
        spikes, potential = (np.asarray(value) for value in layer(current))
        train = "".join("|" if spike else "." for spike in spikes[0, :, 0])
        print(f"reset={reset:9}{train}  rate {spikes.mean():.3f}, last potential {potential[0, 0]:.3f}")


if __name__ == "__main__":
    main()
