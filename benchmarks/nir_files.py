"""Writes a small NIR file with each simulator, and what it fires itself, for the tests of import_nir.

    python benchmarks/nir_files.py tests/export/files

Needs the same as nir_clients.py. All weights are multiples of 1/8, so that sums are exact.
"""

import pathlib
import sys

import nir
import numpy as np
import torch

STEPS, SAMPLES = 8, 6


def linear(rng, inputs, outputs):
    layer = torch.nn.Linear(inputs, outputs)
    layer.weight.data, layer.bias.data = (
        torch.tensor(rng.integers(-8, 9, v.shape) / 8, dtype=torch.float32)
        for v in (layer.weight, layer.bias)
    )
    return layer


def spikingjelly(rng, x):
    from spikingjelly.activation_based import functional, neuron
    from spikingjelly.activation_based.layer import Linear
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    layers = []
    for inputs, outputs in ((6, 5), (5, 4)):
        layer = Linear(inputs, outputs)
        layer.load_state_dict(linear(rng, inputs, outputs).state_dict())
        layers += [layer, neuron.IFNode()]
    net = torch.nn.Sequential(*layers)
    total = sum(net(x) for _ in range(STEPS))
    functional.reset_net(net)
    return export_to_nir(net, x[:1]), total


def sinabs(rng, x):
    from sinabs.activation import SingleSpike
    from sinabs.layers import IAFSqueeze
    from sinabs.nir import to_nir

    # By default it fires several spikes in a step, which is no IF of NIR.
    fires = [IAFSqueeze(batch_size=1, spike_fn=SingleSpike, min_v_mem=None) for _ in range(2)]
    layers = [linear(rng, 6, 5), fires[0], linear(rng, 5, 4), fires[1]]
    net, total = torch.nn.Sequential(*layers), []
    for sample in x:
        for layer in fires:
            layer.reset_states()
        total.append(net(sample.repeat(STEPS, 1)).sum(0))
    return to_nir(net, x[:1]), torch.stack(total)


def norse(rng, x):
    from norse.torch import IAFCell, SequentialState, to_nir

    net = SequentialState(linear(rng, 6, 5), IAFCell(), linear(rng, 5, 4), IAFCell())
    total, state = 0, None
    for _ in range(STEPS):
        y, state = net(x, state)
        total = total + y
    return to_nir(net, x[0]), total


def snntorch(rng, x):
    import snntorch as snn
    from snntorch.export_nir import export_to_nir

    # Of numbers for all neurons it writes a file without their shape, which nir rejects.
    beta, one = (lambda n: torch.full((n,), 0.5)), (lambda n: torch.ones(n))
    # A reset that comes a step later would be after the leak.
    options = {"init_hidden": True, "reset_delay": False}
    leaky = [snn.Leaky(beta=beta(n), threshold=one(n), output=n == 4, **options) for n in (5, 4)]
    # Small enough that no potential is above the threshold after a reset, where it would reset twice.
    layers = [linear(rng, 6, 5), linear(rng, 5, 4)]
    layers[0].weight.data /= 2
    layers[1].weight.data /= 4
    layers[1].bias.data = layers[1].bias.data.abs() / 4 + 0.5
    net = torch.nn.Sequential(layers[0], leaky[0], layers[1], leaky[1])
    total = sum(net(x)[0] for _ in range(STEPS))
    for layer in leaky:
        layer.reset_mem()
    return export_to_nir(net, x[0]), total


def main():
    folder = pathlib.Path(sys.argv[1])
    torch.set_grad_enabled(False)
    for write in (spikingjelly, sinabs, norse, snntorch):
        rng = np.random.default_rng(list(write.__name__.encode()))
        x = rng.integers(0, 5, (SAMPLES, 6)).astype("float32") / 4
        try:
            graph, total = write(rng, torch.tensor(x))
            # Norse gives scalars, which cannot be compressed.
            nir.write(folder / f"{write.__name__}.nir", graph, compression=None)
        except Exception as error:
            print(f"{write.__name__}: {type(error).__name__}: {error}")
            continue
        np.savez(folder / f"{write.__name__}.npz", x=x, counts=total.numpy(), timesteps=STEPS)
        print(f"{write.__name__}: {len(graph.nodes)} nodes, {total.sum()} spikes")


if __name__ == "__main__":
    main()
