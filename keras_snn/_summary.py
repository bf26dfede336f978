"""What an analysis keeps of its data: a summary that is small, goes into a file, and adds up with others."""

import dataclasses
import io
import json
import os

import numpy as np

from keras_snn._files import output_path, replacing
from keras_snn._results import Result, Rows

__all__ = ["Summary", "Totals"]

# The version of the files; later versions read earlier ones.
_FORMAT = 1


class Totals:
    """Sums, maxima and first few values, as they are added up batch by batch.

    Attributes:
        sums: Dict of arrays that add up: `int64` where they count, else `float64`.
        maxima: Dict of arrays of which the larger values stay.
        first: Dict of `(rows, values)`: values of the samples with the lowest row numbers.
        limits: Dict of the number of samples of which `first` keeps values.
    """

    def __init__(self):
        self.sums, self.maxima, self.first, self.limits = {}, {}, {}, {}

    def add(self, name, value):
        """Add a number or an array to a sum; integers stay integers, which add up exactly in any order."""
        value = np.asarray(value)
        value = value.astype("int64" if value.dtype.kind in "biu" else "float64")
        self.sums[name] = self.sums[name] + value if name in self.sums else value

    def raise_to(self, name, value):
        """Raise a maximum to a number or an array, where that is larger."""
        value = np.asarray(value, "float64")
        self.maxima[name] = np.maximum(self.maxima[name], value) if name in self.maxima else value

    def missing(self, name, limit):
        """Return of how many more samples `keep` would keep values, if rows come in order."""
        return limit - (len(self.first[name][0]) if name in self.first else 0)

    def keep(self, name, rows, values, limit):
        """Keep values of the samples with the lowest row numbers.

        Args:
            name: Name of the values.
            rows: Row numbers, `(samples,)`.
            values: Array `(samples, …)`.
            limit: Of how many samples values stay.
        """
        rows, values = np.asarray(rows, "int64"), np.asarray(values)
        if name in self.first:
            rows = np.concatenate([self.first[name][0], rows])
            values = np.concatenate([self.first[name][1], values])
        order = np.argsort(rows, kind="stable")[:limit]
        self.first[name], self.limits[name] = (rows[order], values[order]), limit

    def include(self, other, prefix=""):
        """Add up with other `Totals` or a `Summary`, whose names get a prefix."""
        for name, value in other.sums.items():
            self.add(prefix + name, value)
        for name, value in other.maxima.items():
            self.raise_to(prefix + name, value)
        for name, (rows, values) in other.first.items():
            self.keep(prefix + name, rows, values, other.limits[name])


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Summary(Result):
    """What an analysis keeps of some samples, as plain arrays: small, whatever their number.

    Summaries of parts of the data merge into that of the whole, in any order and however it was split:
    integers exactly, sums of floats up to their rounding. `keras_snn.summaries.result` makes the result of
    it.

    Attributes:
        kind: Name of the function of `keras_snn.summaries` that made it.
        model: Digest of the model, which summaries that merge have in common.
        settings: Dict of what else they have in common, such as the number of time steps.
        samples: Number of samples.
        sums: Dict of arrays that add up: `int64` where they count, else `float64`.
        maxima: Dict of arrays of which the larger values stay.
        first: Dict of `(rows, values)`: values of the samples with the lowest row numbers.
        limits: Dict of the number of samples of which `first` keeps values.
    """

    kind: str
    model: str
    settings: dict
    samples: int
    sums: dict
    maxima: dict
    first: dict
    limits: dict

    @classmethod
    def of(cls, kind, model, settings, samples, totals):
        """Return the summary of what `Totals` hold; other arguments as the attributes."""
        return cls(kind, model, settings, samples, totals.sums, totals.maxima, totals.first, totals.limits)

    def merge(self, *others: "Summary") -> "Summary":
        """Return the summary of all samples of this one and others.

        Args:
            others: Summaries of other samples, by the same function, of the same model and settings.

        Raises:
            TypeError, ValueError: If one of them is of something else.
        """
        totals = Totals()
        for part in (self, *others):
            self._check_fits(part)
            totals.include(part)
        samples = sum(part.samples for part in (self, *others))
        return Summary.of(self.kind, self.model, self.settings, samples, totals)

    def _check_fits(self, other):
        if not isinstance(other, Summary):
            raise TypeError(
                f"`others` must be summaries. Received: {type(other).__name__}. Make them with "
                "keras_snn.summaries."
            )
        for name in ("kind", "model", "settings"):
            ours, theirs = getattr(self, name), getattr(other, name)
            if ours != theirs:
                raise ValueError(
                    f"`others` must be of the same kind, model and settings. Received: {name} {theirs!r} "
                    f"beside {ours!r}. Merge what one function made of one model."
                )

    def part(self, prefix):
        """Return `Totals` of what has a prefix in its name, which is left out."""
        found = Totals()
        for field in ("sums", "maxima", "first", "limits"):
            values = getattr(self, field)
            getattr(found, field).update(
                {name.removeprefix(prefix): v for name, v in values.items() if name.startswith(prefix)}
            )
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of it as a file, compressed; as many go from one process to another."""
        return len(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return it as the content of an `.npz` file, compressed."""
        names, arrays = [], []
        for field in ("sums", "maxima"):
            for name, value in getattr(self, field).items():
                names.append([field, name])
                arrays.append(value)
        for name, pair in self.first.items():
            names += [["rows", name, self.limits[name]], ["values", name]]
            arrays += pair
        facts = {"kind": self.kind, "model": self.model, "settings": self.settings, "samples": self.samples}
        text = json.dumps({"format": _FORMAT, **facts, "names": names})
        file = io.BytesIO()
        np.savez_compressed(file, summary=text, **{str(i): array for i, array in enumerate(arrays)})
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Summary":
        """Return the summary of what `to_bytes` gave.

        Args:
            content: The bytes.

        Raises:
            ValueError: If they are something else.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                facts = json.loads(str(file["summary"]))
                arrays = [file[str(i)] for i in range(len(facts["names"]))]
        except Exception as error:
            raise ValueError(
                f"A summary must be what Summary.save wrote. Received: something else ({error}). "
                "Save it again."
            ) from error
        if facts.pop("format") > _FORMAT:
            raise ValueError("A summary must be of this version or an earlier one. Received: a later one.")
        totals, rows = Totals(), {}
        for (field, name, *limit), array in zip(facts.pop("names"), arrays, strict=True):
            if field == "rows":
                rows[name], totals.limits[name] = array, *limit
            elif field == "values":
                totals.first[name] = rows[name], array
            else:
                getattr(totals, field)[name] = array
        return cls.of(**facts, totals=totals)

    def save(self, path: str | os.PathLike) -> None:
        """Write it as an `.npz` file of plain arrays.

        Args:
            path: Name of the file, `.npz`.

        Raises:
            TypeError, ValueError, OSError: If `path` is not an .npz file that can be written.
        """
        path = output_path("path", path)
        if path.suffix != ".npz":
            raise ValueError(f"`path` must end in .npz. Received: '{path}'. Change the name.")
        with replacing(path) as (file,):
            file.write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Summary":
        """Return the summary that `save` wrote.

        Args:
            path: Name of the file.

        Raises:
            ValueError, OSError: If it is not such a file.
        """
        with open(path, "rb") as file:
            return cls.from_bytes(file.read())

    def __reduce__(self):
        return Summary.from_bytes, (self.to_bytes(),)

    @property
    def headline(self) -> str:
        """What it is of, in a few words."""
        return ", ".join([self.kind, f"{self.samples:,} samples", *_named(self.settings)])

    def tables(self) -> list[Rows]:
        """Return the tables that notebooks show: what it holds."""
        rows = [
            (field, name, str(np.shape(value)))
            for field in ("sums", "maxima")
            for name, value in getattr(self, field).items()
        ]
        rows += [("first", name, str(np.shape(values))) for name, (_, values) in self.first.items()]
        return [[("rule", "name", "shape"), *rows]]


def _named(settings):
    return [f"{name} {value}" for name, value in settings.items()]
