"""Runs one exported network in each simulator that reads NIR, and compares spike counts neuron by neuron.

    TFDS_DATA_DIR=… python benchmarks/nir_clients.py [--samples 100] [--timesteps 32]

Needs tensorflow-datasets, and what is installed of the clients, on PyTorch: spikingjelly, norse and
snntorch, each with nir and nirtorch (pip install -e '.[nir,peers]' norse nirtorch); sinabs too (pip install
--no-deps sinabs pbr: one of its dependencies installs packages when it is imported).

A convolutional network with average pooling is trained on MNIST and converted with each reset. With dyadic
weights and inputs all sums are exact, so that nothing but the rules of a client can make a difference. Every
client runs the file with the fewest lines that load it, and with those of docs/deploying.md.
"""

import argparse
import contextlib
import datetime
import functools
import importlib.metadata
import pathlib
import platform
import sys
import tempfile

import numpy as np


def prepare(samples, timesteps, epochs):
    """Train, convert and return the spiking networks by `(weights, neurons)`, and images by weights."""
    import keras
    import tensorflow_datasets as tfds
    from keras import layers

    import keras_snn
    from keras_snn.neurons import IntegrateAndFire

    keras.utils.set_random_seed(1)
    splits = tfds.load(
        "mnist", split=["train[:20000]", f"test[:{samples}]"], batch_size=-1, as_supervised=True
    )
    (x, y), (x_test, y_test) = ((np.float32(x / 255), y) for x, y in tfds.as_numpy(splits))
    model = keras.Sequential([keras.Input((28, 28, 1))], name="cnn")
    # The second padding is asymmetric.
    for filters, strides in ((12, 1), (24, 2)):
        model.add(layers.Conv2D(filters, 3, strides=strides, padding="same", activation="relu"))
        model.add(layers.AveragePooling2D(2))
    for layer in (
        layers.Flatten(),
        layers.Dense(32, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ):
        model.add(layer)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=2)
    print(f"ANN {model.evaluate(x_test, y_test, verbose=0)[1]:.1%} on {samples} images\n")
    kinds = {
        "reset to zero": IntegrateAndFire(reset="zero", initial_potential=0.0),
        "subtraction": IntegrateAndFire(initial_potential=0.0),
        "subtraction, from θ/2": IntegrateAndFire(),
    }
    networks = {}
    for name, neuron in kinds.items():
        for weights in ("dyadic", "real"):
            snn = keras_snn.convert(
                model, x[:1000], preset="rueckauer2017", timesteps=timesteps, neuron=neuron, verbose=0
            )
            if weights == "dyadic":
                snn.set_weights([np.round(w * 128) / 128 for w in snn.get_weights()])
            networks[weights, name] = snn
    return networks, {"dyadic": np.round(x_test * 16) / 16, "real": x_test}


def ours(snn, x):
    """Return the spike counts of each layer of neurons by name, channels first."""
    counts = snn.simulate(x, record=["spike_counts"], verbose=0).spike_counts
    return {name: np.moveaxis(count, -1, 1) for name, count in counts.items()}


class Counter:
    """Sums what modules give, by name."""

    def __init__(self, modules):
        self.counts = {}
        for name, module in modules.items():
            module.register_forward_hook(functools.partial(self.add, name))

    def add(self, name, module, inputs, output):
        spikes = output[0] if isinstance(output, tuple) else output
        self.counts[name] = self.counts.get(name, 0) + spikes.detach()


def step_by_step(net, neurons, x, timesteps):
    """Run a network that takes and returns its state; return the counts."""
    counter, state = Counter(neurons), None
    for _ in range(timesteps):
        _, state = net(x, state)
    return {name: count.numpy() for name, count in counter.counts.items()}


def of_type(net, kind):
    """Return the modules of a kind by name of the NIR node."""
    return {name.split(".")[0]: module for name, module in net.named_modules() if isinstance(module, kind)}


def spikingjelly(path, x, timesteps, configured, start, subtracts):
    from spikingjelly.activation_based import neuron
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    net = import_from_nir(path, dt=1.0)
    nodes = of_type(net, neuron.IFNode)
    for node in nodes.values() if configured else ():
        if subtracts:
            node.v_reset = None
        node.v = start
    return step_by_step(net, {name: getattr(net, name) for name in nodes}, x, timesteps)


def read(path, configured):
    """Return the NIR graph of a file; if configured, for readers that count the batch as its first axis."""
    import nir

    graph = nir.read(path)
    for node in graph.nodes.values() if configured else ():
        if isinstance(node, nir.Flatten):
            node.start_dim = 1
    return graph


def norse(path, x, timesteps, configured, start, subtracts):
    from norse.torch import from_nir
    from norse.torch.module.iaf import IAFCell

    graph = read(path, configured)
    net = from_nir(graph)
    return step_by_step(net, of_type(net, IAFCell), x, timesteps)


def snntorch(path, x, timesteps, configured, start, subtracts):
    import torch
    from snntorch import Leaky
    from snntorch.import_nir import import_from_nir

    graph = read(path, configured)
    net = import_from_nir(graph)
    nodes = of_type(net, Leaky)
    for name, node in nodes.items() if configured else ():
        node.beta, node.init_hidden = torch.tensor(1.0), True
        # A reset to zero that comes a step later loses the current of that step.
        node.reset_mechanism, node.reset_delay = ("subtract", True) if subtracts else ("zero", False)
        node.mem = torch.full((len(x), *graph.nodes[name].v_threshold.shape), start)
    return step_by_step(net, nodes, x, timesteps)


def sinabs(path, x, timesteps, configured, start, subtracts):
    import nir
    import torch
    from sinabs.activation import MembraneReset, SingleSpike
    from sinabs.layers import IAFSqueeze
    from sinabs.nir import from_nir

    graph = nir.read(path)
    net = from_nir(graph, batch_size=len(x))
    nodes = of_type(net, IAFSqueeze)
    for name, node in nodes.items() if configured else ():
        node.spike_fn, node.min_v_mem = SingleSpike, None
        if not subtracts:
            node.reset_fn = MembraneReset()
        node.v_mem = torch.full((len(x), *graph.nodes[name].v_threshold.shape), start)
    counter = Counter(nodes)
    net(x.repeat_interleave(timesteps, 0))
    return {
        name: spikes.unflatten(0, (len(x), timesteps)).sum(1).numpy()
        for name, spikes in counter.counts.items()
    }


# Name: its distribution, and what runs a file on images.
CLIENTS = {
    "SpikingJelly": ("spikingjelly", spikingjelly),
    "sinabs": ("sinabs", sinabs),
    "Norse": ("norse", norse),
    "snnTorch": ("snntorch", snntorch),
}


def installed():
    """Return the version of each client that is there."""
    found = {}
    for name, (distribution, _) in CLIENTS.items():
        try:
            found[name] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            print(f"{name} is not installed and left out")
    return found


def compare(expected, found):
    """Say in how many of all neurons and samples the counts agree."""
    total = same = 0
    for name, counts in expected.items():
        theirs = found[f"{name}_if"]
        if theirs.shape != counts.shape:
            return f"shape {theirs.shape} for {counts.shape}"
        total, same = total + counts.size, same + int(np.sum(theirs == counts))
    return "exact" if same == total else f"{total - same} of {total} differ ({1 - same / total:.2%})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--timesteps", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    versions = installed()
    networks, images = prepare(options.samples, options.timesteps, options.epochs)
    import nir
    import torch

    import keras_snn

    torch.set_grad_enabled(False)
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    print(
        f"{shown}; PyTorch {torch.__version__}, nir {nir.__version__}, Python {platform.python_version()}, "
        f"keras_snn {keras_snn.__version__}; {datetime.date.today()}. T = {options.timesteps}, "
        f"{options.samples} images.\n"
    )
    print(
        "| client | neurons | pooling | weights | as shipped | configured |\n"
        "| --- | --- | --- | --- | --- | --- |"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "net.nir"
        for (weights, neurons), snn in networks.items():
            x = images[weights]
            expected = ours(snn, x)
            first_first = torch.from_numpy(np.moveaxis(x, -1, 1).copy())
            start = 0.5 if "θ/2" in neurons else 0.0
            others = ("average", "convolution") if weights == "dyadic" and start else ()
            for pooling in ("sum", *others):
                accept = () if "zero" in neurons else ("reset", "threshold", "initial_potential")
                keras_snn.export_nir(snn, path, pooling=pooling, accept=accept)
                for client in versions:
                    cells = [
                        outcome(
                            client, expected, path, first_first, options.timesteps, configured, start, accept
                        )
                        for configured in (False, True)
                    ]
                    print(
                        f"| {client} | {neurons} | {pooling} | {weights} | {' | '.join(cells)} |", flush=True
                    )


def outcome(client, expected, path, x, timesteps, configured, start, subtracts):
    """Describe how a client runs the file."""
    try:
        # One of them prints.
        with contextlib.redirect_stdout(sys.stderr):
            found = CLIENTS[client][1](path, x, timesteps, configured, start, bool(subtracts))
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:60]}"
    return compare(expected, found)


if __name__ == "__main__":
    main()
