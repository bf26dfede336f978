"""What a row of the table of operations may be; `keras_snn.engines.events.kernels` runs them."""

import hashlib
import pathlib

__all__ = ["BLOCK", "FIELDS", "LANES", "OF_STEP", "OPERATIONS", "hash_of_sources"]

# Neurons whose spikes are one word of bits.
LANES = 16
# Numbers of a row of weights that lie together with those of other rows.
BLOCK = 64
# Places in memory and of words from here on are those of a step, of which several are in memory at once.
OF_STEP = 2**30
OPERATIONS = (
    "list_places",
    "list_values",
    "add_rows",
    "add_groups",
    "add_places",
    "add_values",
    "add_vector",
    "fire",
    "scale",
    "mark",
    "take_maximum_of_spikes",
    "take_maximum",
    "fire_values",
    "round",
    # Of several steps at once:
    "list_steps",
    "merge_steps",
    "fire_sums",
    "take_maximum_of_four",
    "product",
    "part",
)
# Integers of a row: which operation, its arguments, from which step on it runs, and its group: what runs step
# by step together, after all that comes before.
FIELDS = 15


def hash_of_sources():
    """Return a number that is another one if the code of the kernels is."""
    folder = pathlib.Path(__file__).parent
    sources = (path.read_bytes() for path in sorted(folder.glob("*.py")))
    return int.from_bytes(hashlib.sha256(b"".join(sources)).digest()[:7], "big")
