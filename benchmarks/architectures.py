"""Small networks after keras.io's examples and popular repositories: what converts, and what takes spikes.

    python benchmarks/architectures.py [--only TEXT] [--timesteps 64]

Weights are random, batch norms have random statistics. Of each network it prints whether it converts with
the defaults ("yes"), only with nonspiking="allow", or not; which share of the multiply-adds that are done
at every step takes spikes; and the relative error of the outputs in so many time steps and in 8 times as
many: if it falls as 1/T, the second is an eighth of the first. Networks of linear maps, relus and maxima
alone are plain; the last lines have the shares of these.
"""

import argparse
import warnings

import keras
import numpy as np
from small_networks import IMAGE, NETWORKS

import keras_snn
from keras_snn.analysis.input_shares import input_shares
from keras_snn.simulation.source import program_of


def randomized(model, rng):
    """Give batch norms statistics and every bias a value."""
    for variable in model.weights:
        shape, name = variable.shape, variable.path.split("/")[-1]
        if name in ("bias", "beta", "moving_mean"):
            variable.assign(rng.normal(0, 0.2, shape))
        elif name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, shape))
    return model


def samples(model, rng, count=16):
    """Return inputs of a model: images in [0, 1], integers below 9."""
    inputs = getattr(model, "inputs", None) or [keras.KerasTensor((None, *IMAGE))]
    arrays = [
        rng.uniform(size=(count, *x.shape[1:])).astype("float32")
        if "float" in x.dtype
        else rng.integers(0, 9, (count, *x.shape[1:]))
        for x in inputs
    ]
    return arrays if len(arrays) > 1 else arrays[0]


def error(snn, x, expected):
    """Return the relative RMS error of all outputs."""
    found = [y.ravel() for y in keras.tree.flatten(snn.predict(x, verbose=0))]
    expected = [y.ravel() for y in keras.tree.flatten(expected)]
    parts = zip(found, expected, strict=True)
    return max(float(np.sqrt(np.mean((a - b) ** 2) / max(np.mean(b**2), 1e-12))) for a, b in parts)


def measured(make, timesteps):
    """Return whether a network converts, the `InputShares` of its layers, and errors in T and 8·T steps."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    model = randomized(make(), rng)
    x = samples(model, rng)
    how = "yes"
    options = {"normalization": "max", "bias_correction": False, "timesteps": timesteps, "verbose": 0}
    if not keras_snn.check(model, x).converts:
        how, options["nonspiking"] = "allow", "allow"
    snn = keras_snn.convert(model, x, **options)
    expected, errors = model.predict(x, verbose=0), []
    for steps in (timesteps, 8 * timesteps):
        snn.timesteps = steps
        errors.append(error(snn, x, expected))
    return how, input_shares(program_of(snn)).values(), errors


def row(name, is_plain, make, timesteps):
    """Print a line of the table; return `(how, spikes, all, falls)`, of multiply-adds at every step."""
    start = f"{name:40} {'yes' if is_plain else 'no':6}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            how, takes, errors = measured(make, timesteps)
    except Exception as failed:
        print(start, f"refused: {str(failed)[:200]}", flush=True)
        return "no", 0, 0, True
    spikes, numbers = (sum(getattr(one, of) for one in takes) for of in ("spikes", "numbers"))
    shown = f"{spikes / (spikes + numbers):.0%}" if spikes + numbers else "-"
    print(start, f"{how:9} {shown:>7} {errors[0]:8.4f} {errors[1]:8.4f}", flush=True)
    return how, spikes, spikes + numbers, errors[1] < max(errors[0] / 4, 1e-3)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="networks whose name has this in it")
    parser.add_argument("--timesteps", type=int, default=64)
    options = parser.parse_args()
    print(f"{'network':40} {'plain':6} {'converts':9} {'spikes':>7} {'error':>8} {'8 times':>8}")
    chosen = {name: network for name, network in NETWORKS.items() if options.only in name}
    rows = {name: row(name, *network, options.timesteps) for name, network in chosen.items()}
    plain = [rows[name] for name, (is_plain, _) in chosen.items() if is_plain]
    if not plain:
        return
    by_default = [how == "yes" for how, *_ in plain]
    shares = [spikes / total for _, spikes, total, _ in plain if total]
    spikes, total = (sum(found[i] for found in plain) for i in (1, 2))
    print(f"{len(rows)} networks. Of {len(plain)} plain ones {np.mean(by_default):.0%} convert as they are.")
    print(f"Of all their multiply-adds at every step {spikes / total:.0%} take spikes, by network")
    print(
        f"{np.mean(shares):.0%} on the average, and 90 % or more in {np.mean(np.array(shares) >= 0.9):.0%}."
    )
    print(f"The error of {np.mean([found[3] for found in rows.values()]):.0%} falls by 4 or more.")


if __name__ == "__main__":
    main()
