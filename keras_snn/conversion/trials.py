"""Trying one network after the other, and keeping the one that costs least of those that lose little."""

import dataclasses
import warnings

import keras

from keras_snn.analysis.counting import count_operations
from keras_snn.analysis.updates import latency_of
from keras_snn.conversion.losses import CONFIDENCE
from keras_snn.conversion.search_report import Search, Trial
from keras_snn.simulation.source import program_of

__all__ = ["Ladder", "Trials"]


@dataclasses.dataclass(frozen=True)
class _Variant:
    """Scales and corrections.

    Attributes:
        label: What they are called.
        options: As of `convert`.
        saves: Whether they may cost less at equal precision.
        of_time_codes: Whether they help time codes too, whose spikes are about as many at any scale.
    """

    label: str
    options: dict
    saves: bool = False
    of_time_codes: bool = True


# Least squares for every channel lose least of all scales on the networks of the benchmarks.
_FIRST = _Variant("", {"normalization": "mse", "per_channel": True, "bias_correction": False})
# Corrections lose less, but take longer to compute. Larger scales send fewer spikes.
_VARIANTS = (
    _Variant("corrected", {**_FIRST.options, "bias_correction": "either"}),
    _Variant(
        "scales of layers, corrected",
        {"normalization": "mse", "per_channel": False, "bias_correction": "either"},
        saves=True,
    ),
    _Variant(
        "maxima of channels, corrected",
        {"normalization": "max", "per_channel": True, "bias_correction": "either"},
        saves=True,
        of_time_codes=False,
    ),
)
# What loses so many times as much as it may is not varied: no variant would make it good.
_NEAR = 2
# Samples on which operations are counted.
_COUNTED = 32
# The least share of the cost of a network of one more step, of that of a network of one step.
_SHARE_OF_STEPS = 0.6


class Ladder:
    """Networks of one kind of neuron, and what is known of them.

    Attributes:
        networks: Pairs `(neuron, timesteps)`, the coarsest first.
        found: `_Outcome`s by place.
        place: That of the coarsest that is not known to lose too much, or `None` if none can be.
    """

    def __init__(self, networks):
        self.networks, self.found, self.place = networks, {}, 0


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """What came of a trial: `"impossible"`, `"costly"`, `"imprecise"` or `"good"`.

    The cost, and the limit of the loss, are `None` where they were not measured.
    """

    kind: str
    cost: float | None = None
    upper: float | None = None


class Trials:
    """Tries candidates, and keeps the best.

    Args:
        wish: A `Wish`.
        judge: A `Judge`, of samples that do not calibrate.
        convert: Function of options, which returns a spiking model.
        verbose: 0 shows no progress bar.
    """

    def __init__(self, wish, judge, convert, verbose):
        self.wish, self.judge, self.convert = wish, judge, convert
        self.trials, self.error = [], None
        # Of those that lose little enough the cheapest; and of all the one that loses least.
        self.best, self.closest = None, None
        self.source, self.measure = None, ""
        # Cost that a network must stay below to be tried further, where it is known.
        self.limit = None
        self.progress = keras.utils.Progbar(None, unit_name="candidate") if verbose else None

    def bisect(self, ladder):
        """Look for the coarsest network of a ladder that loses little enough, while it is the cheapest."""
        low, high = 0, len(ladder.networks)
        # Costs grow along the ladder: if the first one costs more than the best, all do.
        from_first = self.limit is not None
        place = 0 if from_first else (high - 1) // 2
        while low < high:
            outcome = self._try(ladder, place, _FIRST)
            if outcome.kind == "impossible":
                ladder.place = None
                return
            low, high = (place + 1, high) if outcome.kind == "imprecise" else (low, place)
            if self.limit is not None and outcome.cost is not None:
                high = min(high, self._affordable(ladder, place, outcome.cost))
            ladder.place = low
            place = low if from_first else (low + high) // 2

    def vary(self, ladder):
        """Try other scales and corrections of a ladder, each from where the one before has come to.

        A network that nearly loses little enough may do so with them, and then coarser ones too. Of one that
        loses little enough, some scales cost less.
        """
        if ladder.place is None:
            return
        neuron, _ = ladder.networks[0]
        for variant in (v for v in _VARIANTS if v.of_time_codes or not neuron.is_time_code):
            before = ladder.place
            while ladder.place > 0 and self._may_lose_little(ladder, variant):
                ladder.place -= 1
            if variant.saves and ladder.place == before and self._may_cost_less(ladder):
                self._varied(ladder, before, variant)

    def _may_lose_little(self, ladder, variant):
        """Try a variant of the network before the place of a ladder, if that is near; whether it is good."""
        place = ladder.place - 1
        known = ladder.found.get(place)
        if known is not None and (known.kind == "costly" or known.upper > _NEAR * self.wish.max_loss):
            return False
        outcome = self._varied(ladder, place, variant)
        if outcome.kind == "costly":
            # Other scales and corrections of it would cost too much, too.
            ladder.found[place] = outcome
        return outcome.kind == "good"

    def _may_cost_less(self, ladder):
        """Whether the network at the place of a ladder is the best so far, and scales may change its cost."""
        known = ladder.found.get(ladder.place)
        is_best = self.best is not None and known is not None and known.cost == self.best[1]
        return is_best and self.wish.minimize != "timesteps"

    def _varied(self, ladder, place, variant):
        """Return the `_Outcome` of a variant; if it is good, the next one has to cost less."""
        outcome = self._try(ladder, place, variant)
        if outcome.kind == "good":
            self.limit_cost()
        return outcome

    def _affordable(self, ladder, place, cost):
        """Return how many networks of a ladder may cost less than the limit, given the cost of one."""
        steps = [timesteps for _, timesteps in ladder.networks]
        if None in steps:
            return len(steps)
        # Some of the cost does not depend on the number of steps.
        return sum(cost * _SHARE_OF_STEPS * n / steps[place] < self.limit for n in steps)

    def limit_cost(self):
        """Leave out from now on what costs more than the best; or, if all neurons may be, than the source.

        Time steps without end would be more precise, and of no use.
        """
        if self.best is not None:
            self.limit = self.best[1]
        elif self.wish.neurons is None and self.closest is not None:
            self._cost(self.closest[0])
            self.limit = self.source

    def _try(self, ladder, place, variant):
        """Try one network of a ladder and return its `_Outcome`, kept if it is good or of no variant."""
        neuron, timesteps = ladder.networks[place]
        label = _label(neuron, timesteps, variant.label)
        try:
            with warnings.catch_warnings():
                # Of silent layers: once, of the chosen one.
                warnings.simplefilter("ignore")
                snn = self.convert(neuron=neuron, timesteps=timesteps, **variant.options)
        except ValueError as error:
            self.error = error
            self._add(label, None, None, f"cannot be: {str(error).split(' Received')[0]}")
            return _Outcome("impossible")
        outcome = self._judged(snn, label)
        if variant is _FIRST or outcome.kind == "good":
            ladder.found[place] = outcome
        return outcome

    def _judged(self, snn, label):
        """Return the `_Outcome` of a network, and keep it if it is the best or the closest so far."""
        # To count takes longer than to judge; but where there is a limit, most cost too much.
        cost = None if self.limit is None else self._cost(snn)
        if cost is not None and cost >= self.limit:
            self._add(label, None, cost, "costs more")
            return _Outcome("costly", cost)
        self.measure = self.measure or self.judge.measures(snn)
        loss = self.judge.loss_of(snn)
        if self.closest is None or loss.upper < self.closest[1].upper:
            self.closest = snn, loss, len(self.trials)
        if loss.upper > self.wish.max_loss:
            self._add(label, loss, cost, "may lose more")
            return _Outcome("imprecise", cost, loss.upper)
        cost = self._cost(snn) if cost is None else cost
        self.best = (snn, loss, len(self.trials)), cost
        if self.limit is not None:
            self.limit = cost
        self._add(label, loss, cost, "")
        return _Outcome("good", cost, loss.upper)

    def _cost(self, snn):
        if self.wish.minimize == "timesteps":
            return float(latency_of(program_of(snn)))
        counts = count_operations(snn, keras.tree.map_structure(lambda a: a[:_COUNTED], self.judge.x))
        if self.wish.minimize == "energy":
            energy = counts.energy()
            self.source = energy.ann
            return energy.snn
        if self.wish.minimize == "spikes":
            return float(sum(layer.events for layer in counts.neurons))
        self.source = float(counts.ann_operations)
        return counts.operations_with_updates

    def _add(self, label, loss, cost, outcome):
        mean, upper = (None, None) if loss is None else (loss.mean, loss.upper)
        self.trials.append(Trial(label, mean, upper, cost, outcome))
        if self.progress is not None:
            self.progress.add(1)

    def result(self, calibrated):
        """Return the chosen model, with the `Search` in its report.

        Args:
            calibrated: Number of samples that calibrated.
        """
        chosen = self.closest if self.best is None else self.best[0]
        if chosen is None:
            raise self.error
        if self.progress is not None:
            self.progress.update(len(self.trials), finalize=True)
        snn, loss, place = chosen
        self.trials[place] = dataclasses.replace(self.trials[place], outcome="chosen")
        judged = len(keras.tree.flatten(self.judge.x)[0])
        found = Search(
            max_loss=self.wish.max_loss,
            measure=self.measure,
            minimize=self.wish.minimize,
            confidence=CONFIDENCE,
            calibrated=calibrated,
            judged=judged,
            source=self.source,
            met=self.best is not None,
            stopped=self._why(loss, judged),
            trials=tuple(self.trials),
        )
        if not found.met:
            warnings.warn(found.stopped, stacklevel=5)
        snn.conversion_report = dataclasses.replace(snn.conversion_report, search=found)
        return snn

    def _why(self, loss, judged):
        if self.best is not None:
            return (
                "Of those that lose little enough it is the cheapest: coarser ones may lose more, finer ones "
                "cost more."
            )
        return (
            f"No candidate loses at most {self.wish.max_loss:g} of {self.measure} with {CONFIDENCE:.0%} "
            f"confidence, on {judged} samples: the closest loses {loss.mean:.3f}, and at most "
            f"{loss.upper:.3f}. Allow more, or give more samples."
        )


def _label(neuron, timesteps, variant):
    name = neuron.alias or type(neuron).__name__
    if timesteps is not None:
        precision = f"{timesteps} step{'s' * (timesteps > 1)}"
    else:
        precision = f"{neuron.levels} levels"
    return ", ".join(filter(None, (name, precision, variant)))
