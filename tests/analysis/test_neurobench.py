import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_snn
from keras_snn import count_operations


def test_metrics_are_those_of_neurobench(rng):
    """On the same network in PyTorch, whose hooks NeuroBench counts with."""
    torch = pytest.importorskip("torch")
    snntorch = pytest.importorskip("snntorch")
    pytest.importorskip("neurobench")
    from neurobench.metrics.static import ConnectionSparsity, Footprint
    from neurobench.metrics.workload import ActivationSparsity, MembraneUpdates, SynapticOperations
    from neurobench.models import TorchModel

    timesteps, samples = 7, 5
    model = keras.Sequential(
        [
            keras.Input((6, 5, 2)),
            layers.Conv2D(4, 3, activation="relu", name="conv1"),
            layers.Conv2D(3, 3, padding="same", activation="relu", name="conv2"),
            layers.Flatten(),
            layers.Dense(4, name="label"),
        ]
    )
    networks.randomize(model, rng)
    model.set_weights([w * (rng.random(w.shape) < 0.7) if w.ndim > 1 else w for w in model.get_weights()])
    x = networks.data_for(model, rng, samples=samples) * (rng.random((samples, 6, 5, 2)) < 0.8)
    # With λ = an activation, that neuron gets a current of exactly 1 and its potential stays the same.
    snn = keras_snn.convert(model, x, timesteps=timesteps, percentile=90, verbose=0)

    class Neuron(snntorch.SpikingNeuron):
        def __init__(self, *shape):
            torch.nn.Module.__init__(self)
            self.init_hidden = self.output = False
            self.register_buffer("mem", torch.full((1, *shape), 0.5))

        def forward(self, current):
            v = self.mem + current
            spikes = (v >= 1).float()
            self.mem = v - spikes
            return spikes, self.mem

    class Network(torch.nn.Module):
        def __init__(self, spiking):
            super().__init__()
            self.conv1, self.conv2 = torch.nn.Conv2d(2, 4, 3), torch.nn.Conv2d(4, 3, 3, padding=1)
            self.label = torch.nn.Linear(36, 4)
            self.first, self.second = (
                (Neuron(4, 4, 3), Neuron(3, 4, 3)) if spiking else (torch.nn.ReLU(), torch.nn.ReLU())
            )
            self.spiking = spiking
            for name in ("conv1", "conv2", "label"):
                layer = snn.get_layer(name)
                layer = getattr(layer, "analog", None) or layer.layer
                kernel, bias = (torch.tensor(w) for w in layer.get_weights())
                kernel = kernel.T if kernel.ndim == 2 else kernel.permute(3, 2, 0, 1)
                getattr(self, name).load_state_dict({"weight": kernel, "bias": bias})

        def after(self, x):
            second = self.second(self.conv2(x))
            return second[0] if self.spiking else second

        def forward(self, x):
            current = self.conv1(x)
            if not self.spiking:
                return self.label(self.after(self.first(current)).permute(0, 2, 3, 1).flatten(1))
            return sum(
                self.label(self.after(self.first(current)[0]).permute(0, 2, 3, 1).flatten(1))
                for _ in range(timesteps)
            )

    data = torch.tensor(x.transpose(0, 3, 1, 2).astype("float32"))
    counts = count_operations(snn, x, batch_size=2)
    for spiking, prefix in ((True, ""), (False, "ann_")):
        net = TorchModel(Network(spiking))
        state = sum(neuron.footprint for neuron in counts.neurons) if spiking else 0
        assert counts.ann_footprint + state == Footprint()(net)
        assert round(counts.connection_sparsity, 4) == ConnectionSparsity()(net)
        net.add_activation_module(snntorch.SpikingNeuron)
        net.register_hooks()
        with torch.no_grad():
            outputs = net(data)
        sparsity = ActivationSparsity()(net, outputs, (data, None))
        np.testing.assert_allclose(getattr(counts, f"{prefix}activation_sparsity"), sparsity, rtol=1e-12)
        if spiking:
            assert counts.neuron_updates == MembraneUpdates()(net, outputs, (data, None))
        with torch.no_grad():
            found = SynapticOperations()(net, outputs, (data, None))
        for ours, theirs in (("effective_macs", "MACs"), ("effective_acs", "ACs")):
            np.testing.assert_allclose(
                getattr(counts, prefix + ours), found[f"Effective_{theirs}"], rtol=1e-12
            )
        assert getattr(counts, f"{prefix}dense") == found["Dense"]
