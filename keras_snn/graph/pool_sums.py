"""Pools of averages as sums over windows, and the numbers of values in them."""

import dataclasses

import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.geometry import pad_widths

__all__ = ["as_convolution", "window_counts"]


def window_counts(node, shape):
    """Return how many values each window has, an array `(*positions, 1)`; of one value if all are alike."""
    counts = np.ones(())
    for size, width, stride in zip(shape, node.window, node.strides, strict=False):
        before, _ = pad_widths(size, width, stride, 1, node.padding)
        positions = (size if node.padding == "same" else size - width + 1) + stride - 1
        starts = np.arange(positions // stride) * stride - before
        within = np.minimum(starts + width, size) - np.maximum(starts, 0)
        counts = counts[..., None] * within
    counts = counts[..., None]
    return counts if np.ptp(counts) else counts.reshape(-1)[:1]


def as_convolution(node, channels):
    """Return the sum over the windows of a pool as an `Affine`."""
    shared = {field.name: getattr(node, field.name) for field in dataclasses.fields(kinds.Node)}
    return kinds.Affine(
        **shared,
        kernel=np.ones((*node.window, 1, channels), "float32"),
        bias=np.zeros(channels, "float32"),
        strides=node.strides,
        dilation=(1,) * len(node.window),
        padding=node.padding,
        groups=channels,
    )
