"""Types of what public functions take and give, where other packages have no name for them."""

from collections.abc import Iterable
from typing import Any, TypeAlias

import keras
import numpy as np

__all__ = ["AnyModel", "Config", "Data", "Rate", "Shape", "State", "Tensor", "Tensors"]

# What a config of Keras is: plain values.
Config: TypeAlias = dict[str, Any]
# Samples or labels: an array, nested arrays, or what gives batches of them. Arrays and datasets of all
# packages are iterable; a `PyDataset` need not be.
Data: TypeAlias = Iterable[Any] | keras.utils.PyDataset
# `keras.models.load_model` has no annotation, and what type checkers infer for it is more than a model.
AnyModel: TypeAlias = keras.Model | Any
# Firing rates and what is in their unit: a number, or an array over neurons or channels.
Rate: TypeAlias = float | np.ndarray
# `None` where a size is not known.
Shape: TypeAlias = tuple[Any, ...]
# A tensor of the backend in use, or a symbol of one.
Tensor: TypeAlias = Any
# A tensor, or a list of them.
Tensors: TypeAlias = Any
# What goes from time step to time step.
State: TypeAlias = list[Tensor]
