"""A network of convolutions, max pools and dense layers in PyTorch, with the neurons of other simulators.

`describe_layers` writes what a graph of keras_snn has as arrays, which need no TensorFlow to be read;
`analog` makes the source network of them, `spiking` the same network of spikes as ours.
"""

import json

import numpy as np

# Samples per batch of what holds all time steps at once.
_AT_ONCE = 25


def describe_layers(graph):
    """Return arrays by name: kinds and options of the layers as text, weights, and potentials to start at."""
    from keras_snn.graph import nodes as kinds
    from keras_snn.neurons.step_form import form_of

    layers, arrays = [], {}
    for node in graph.nodes.values():
        i = len(layers)
        if isinstance(node, kinds.Affine):
            layers.append({"kind": "affine", "padding": node.padding, "strides": node.strides})
            arrays[f"kernel{i}"], arrays[f"bias{i}"] = node.kernel, node.bias
        elif isinstance(node, kinds.Spike):
            form = form_of(node.neuron)
            start = node.neuron.initial_state((1, *node.shape), "float32")[0]
            # Channels first, as PyTorch has them.
            arrays[f"start{i}"] = np.moveaxis(np.asarray(start), -1, 1)
            if form.current:
                arrays[f"bias{i - 1}"] = arrays[f"bias{i - 1}"] + np.asarray(form.current, "float32")
            layers.append({"kind": "neurons", "shape": [node.shape[-1], *node.shape[:-1]]})
        elif isinstance(node, kinds.Activation) and node.function == "relu":
            layers.append({"kind": "relu"})
        elif isinstance(node, kinds.Pool):
            layers.append({"kind": node.function, "window": node.window, "strides": node.strides})
        elif isinstance(node, kinds.Rearrange):
            layers.append({"kind": "flatten"})
        elif isinstance(node, kinds.Readout):
            layers.append(
                {"kind": "readout", "weighting": node.weighting, "shift": np.ravel(node.shift).tolist()}
            )
    return {"layers": json.dumps(layers), **arrays}


class _Flatten:
    """Flattens places and channels in the order of Keras, channels last."""

    def __new__(cls):
        import torch

        class Flatten(torch.nn.Module):
            def forward(self, x):
                return x.permute(0, 2, 3, 1).flatten(1)

        return Flatten()


def _linear(layer, kernel, bias):
    import torch
    from torch import nn

    kernel = torch.tensor(kernel)
    if kernel.ndim == 2:
        made = nn.Linear(*kernel.shape)
        made.weight.data = kernel.T.contiguous()
    else:
        size = tuple(kernel.shape[:2])
        # Windows of odd size at stride 1 are all that is padded in these networks.
        padding = tuple(n // 2 for n in size) if layer["padding"] == "same" else 0
        made = nn.Conv2d(*kernel.shape[2:], size, stride=tuple(layer["strides"]), padding=padding)
        made.weight.data = kernel.permute(3, 2, 0, 1).contiguous()
    made.bias.data = torch.tensor(bias)
    return made.requires_grad_(False)


def _pool(layer):
    from torch import nn

    kind = nn.MaxPool2d if layer["kind"] == "max" else nn.AvgPool2d
    return kind(tuple(layer["window"]), tuple(layer["strides"]))


def analog(arrays):
    """Return the source network as a `torch.nn.Sequential`, up to the logits."""
    from torch import nn

    layers, made = json.loads(str(arrays["layers"])), []
    for i, layer in enumerate(layers):
        if layer["kind"] == "affine":
            made.append(_linear(layer, arrays[f"kernel{i}"], arrays[f"bias{i}"]))
        elif layer["kind"] == "relu":
            made.append(nn.ReLU())
        elif layer["kind"] == "flatten":
            made.append(_Flatten())
        elif layer["kind"] in ("max", "average"):
            made.append(_pool(layer))
    return nn.Sequential(*made).eval()


class Spiking:
    """The spiking network step by step.

    Args:
        arrays: Of `describe_layers`.
        neurons: Function `(start, batch size)` that returns a function of currents that gives spikes.
        over_time: Whether it gets the currents of all steps at once, `(batch, timesteps, …)`.
    """

    def __init__(self, arrays, neurons, *, over_time=False):
        self.layers, self.neurons, self.over_time = [], neurons, over_time
        for i, layer in enumerate(json.loads(str(arrays["layers"]))):
            made = None
            if layer["kind"] == "affine":
                made = _linear(layer, arrays[f"kernel{i}"], arrays[f"bias{i}"])
            elif layer["kind"] in ("max", "average"):
                made = _pool(layer)
            elif layer["kind"] == "flatten":
                made = _Flatten()
            elif layer["kind"] == "neurons":
                made = arrays[f"start{i}"]
            self.layers.append((layer["kind"], made))
            if layer["kind"] == "readout":
                self.weighting, self.shift = layer["weighting"], np.array(layer["shift"], "float32")

    def __call__(self, x, timesteps):
        """Return the scores after the last step, `(batch, classes)`, of images, channels last."""
        import torch

        with torch.no_grad():
            x = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()
            if not self.over_time:
                return self._step_by_step(x, timesteps)
            return np.concatenate([self._at_once(part, timesteps) for part in x.split(_AT_ONCE)])

    def _fresh(self, batch):
        """Return the layers with neurons that have not run, and how often places of pools have fired."""
        import torch

        made = []
        for kind, layer in self.layers:
            if kind == "neurons":
                start = torch.tensor(layer).expand(batch, *layer.shape[1:]).clone()
                made.append((kind, self.neurons(start, batch)))
            else:
                made.append((kind, [layer, 0, 0] if kind == "max" else layer))
        return made

    def _step_by_step(self, x, timesteps):
        layers = self._fresh(len(x))
        # What does not change is computed once.
        current, scores = layers[0][1](x), 0
        for step in range(1, timesteps + 1):
            spikes = current
            for kind, layer in layers[1:]:
                if kind == "max":
                    pool, counts, before = layer
                    counts = counts + spikes
                    largest = pool(counts)
                    layer[1:], spikes = (counts, largest), largest - before
                elif kind != "readout":
                    spikes = layer(spikes)
            scores = scores + (step if self.weighting == "linear" else 1) * spikes
        return self._mean(scores, timesteps)

    def _at_once(self, x, timesteps):
        import torch

        layers = self._fresh(len(x))
        spikes = layers[0][1](x).unsqueeze(1).expand(-1, timesteps, -1, -1, -1)
        for kind, layer in layers[1:]:
            if kind == "neurons":
                spikes = layer(spikes)
            elif kind == "max":
                largest = layer[0](spikes.cumsum(1).flatten(0, 1)).unflatten(0, (len(x), timesteps))
                spikes = torch.diff(largest, dim=1, prepend=torch.zeros_like(largest[:, :1]))
            elif kind != "readout":
                spikes = layer(spikes.flatten(0, 1)).unflatten(0, (len(x), timesteps))
        steps = torch.arange(1, timesteps + 1) if self.weighting == "linear" else torch.ones(timesteps)
        return self._mean((spikes * steps[:, None]).sum(1), timesteps)

    def _mean(self, scores, timesteps):
        steps = timesteps * (timesteps + 1) / 2 if self.weighting == "linear" else timesteps
        return scores.numpy() / steps + self.shift


def snntorch_neurons(start, batch):
    """Return neurons of snnTorch."""
    import snntorch

    neuron = snntorch.Leaky(beta=1.0, reset_mechanism="subtract", reset_delay=False, surrogate_disable=True)
    state = [start]

    def fire(current):
        spikes, state[0] = neuron(current, state[0])
        return spikes

    return fire


def spikingjelly_neurons(start, batch):
    """Return neurons of SpikingJelly, which run step by step."""
    from spikingjelly.activation_based import neuron

    made = neuron.IFNode(v_reset=None, step_mode="s")
    made.v = start
    return made


def sinabs_neurons(start, batch):
    """Return neurons of sinabs, which run all steps at once."""
    from sinabs.activation import SingleSpike
    from sinabs.layers import IAF

    made = IAF(spike_fn=SingleSpike, min_v_mem=None)
    made.v_mem = start
    return made


def converted_by_spikingjelly(network, x):
    """Return a function of images and time steps that gives scores after every step; its own converter.

    Scales of channels, their 99.9th percentile, and neurons that start at half the threshold.
    """
    import torch
    from spikingjelly.activation_based import ann2snn, functional

    batches = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous().split(100)
    recipe = ann2snn.RateCodingRecipe(
        [(one, 0) for one in batches], mode="99.9%", channel_wise=True, half_threshold=True
    )
    snn = ann2snn.Converter(recipe).convert(network)

    @torch.no_grad()
    def run(x, timesteps):
        functional.reset_net(snn)
        x = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()
        return torch.stack([snn(x) for _ in range(timesteps)], 1).cumsum(1).numpy()

    return run


def converted_by_sinabs(network, x):
    """Do as `converted_by_spikingjelly`, with the converter of sinabs, whose neurons may fire several times.

    It leaves scales to its users, and its `normalize_weights` is for layers without biases.
    """
    import torch
    from sinabs.from_torch import from_model
    from sinabs.layers import IAFSqueeze

    _normalize(network, torch.from_numpy(x).permute(0, 3, 1, 2))
    snn = from_model(network, batch_size=1).spiking_model
    neurons = [part for part in snn.modules() if isinstance(part, IAFSqueeze)]

    @torch.no_grad()
    def run(x, timesteps):
        found = []
        for part in torch.from_numpy(x).permute(0, 3, 1, 2).split(_AT_ONCE):
            for neuron in neurons:
                neuron.batch_size = len(part)
                neuron.reset_states()
            scores = snn(part.repeat_interleave(timesteps, dim=0)).unflatten(0, (len(part), timesteps))
            found.append(scores.cumsum(1).numpy())
        return np.concatenate(found)

    return run


def _normalize(network, x):
    """Scale the weights of a network so that the 99.9th percentile of every relu is 1."""
    import torch
    from torch import nn

    before, linear = 1.0, None
    for part in network:
        with torch.no_grad():
            x = part(x)
        if isinstance(part, (nn.Linear, nn.Conv2d)):
            linear = part
            part.weight.data *= before
        if isinstance(part, nn.ReLU):
            scale = float(np.percentile(x.numpy(), 99.9))
            linear.weight.data /= scale
            linear.bias.data /= scale
            before = scale
