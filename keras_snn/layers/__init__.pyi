# Made by tests/layer_stubs.py with Keras 3.15.
from collections.abc import Callable, Iterable
from typing import Any, Literal

import keras

from keras_snn.layers.base import SpikingLayer as SpikingLayer
from keras_snn.layers.binary import BinaryActivation as _BinaryActivation
from keras_snn.layers.encoding import PoissonEncoder as _PoissonEncoder
from keras_snn.layers.linear import SpikingActivation as _SpikingActivation
from keras_snn.layers.linear import SpikingConv1D as _SpikingConv1D
from keras_snn.layers.linear import SpikingConv1DTranspose as _SpikingConv1DTranspose
from keras_snn.layers.linear import SpikingConv2D as _SpikingConv2D
from keras_snn.layers.linear import SpikingConv2DTranspose as _SpikingConv2DTranspose
from keras_snn.layers.linear import SpikingConv3D as _SpikingConv3D
from keras_snn.layers.linear import SpikingConv3DTranspose as _SpikingConv3DTranspose
from keras_snn.layers.linear import SpikingDense as _SpikingDense
from keras_snn.layers.linear import SpikingDepthwiseConv1D as _SpikingDepthwiseConv1D
from keras_snn.layers.linear import SpikingDepthwiseConv2D as _SpikingDepthwiseConv2D
from keras_snn.layers.linear import SpikingSeparableConv1D as _SpikingSeparableConv1D
from keras_snn.layers.linear import SpikingSeparableConv2D as _SpikingSeparableConv2D
from keras_snn.layers.nonspiking import NonSpiking as _NonSpiking
from keras_snn.layers.pooling import SpikingMaxPooling1D as _SpikingMaxPooling1D
from keras_snn.layers.pooling import SpikingMaxPooling2D as _SpikingMaxPooling2D
from keras_snn.layers.pooling import SpikingMaxPooling3D as _SpikingMaxPooling3D
from keras_snn.layers.quantized import QuantizedClip as _QuantizedClip
from keras_snn.layers.readout import Readout as _Readout
from keras_snn.layers.readout import SpikingSoftmax as _SpikingSoftmax
from keras_snn.layers.stateless import PerTimestep as _PerTimestep
from keras_snn.layers.stateless import Rearrange as _Rearrange
from keras_snn.layers.stateless import ScaleShift as _ScaleShift
from keras_snn.neurons import Neuron

__all__ = [
    "BinaryActivation",
    "NonSpiking",
    "PerTimestep",
    "PoissonEncoder",
    "QuantizedClip",
    "Readout",
    "Rearrange",
    "ScaleShift",
    "SpikingActivation",
    "SpikingConv1D",
    "SpikingConv1DTranspose",
    "SpikingConv2D",
    "SpikingConv2DTranspose",
    "SpikingConv3D",
    "SpikingConv3DTranspose",
    "SpikingDense",
    "SpikingDepthwiseConv1D",
    "SpikingDepthwiseConv2D",
    "SpikingLayer",
    "SpikingMaxPool",
    "SpikingMaxPooling1D",
    "SpikingMaxPooling2D",
    "SpikingMaxPooling3D",
    "SpikingSeparableConv1D",
    "SpikingSeparableConv2D",
    "SpikingSoftmax",
]

class BinaryActivation(_BinaryActivation):
    def __init__(
        self,
        function: Literal["sign", "heaviside"] = "sign",
        at_zero: float = 1.0,
        *,
        activity_regularizer: Any = None,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None: ...

class NonSpiking(_NonSpiking):
    def __init__(
        self,
        layer: keras.layers.Layer,
        *,
        return_state: bool = False,
        stateful: bool = False,
        activity_regularizer: Any = None,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None: ...

class PerTimestep(_PerTimestep):
    def __init__(
        self,
        layer: keras.layers.Layer,
        *,
        activity_regularizer: Any = None,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None: ...

class PoissonEncoder(_PoissonEncoder):
    def __init__(
        self,
        rate: float = 1.0,
        scale: float = 1.0,
        seed: int = 0,
        *,
        return_state: bool = False,
        stateful: bool = False,
        activity_regularizer: Any = None,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None: ...

class QuantizedClip(_QuantizedClip):
    def __init__(
        self,
        levels: int,
        scale: float = 1.0,
        signed: bool = False,
        *,
        activity_regularizer: Any = None,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None: ...

class Readout(_Readout):
    def __init__(
        self,
        activation: Any = None,
        delay: int = 0,
        scale: float | tuple[float, ...] = 1.0,
        weighting: Literal["uniform", "linear"] = "uniform",
        shift: float | tuple[float, ...] = 0.0,
        *,
        return_state: bool = False,
        stateful: bool = False,
        activity_regularizer: Any = None,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None: ...

class Rearrange(_Rearrange):
    def __init__(
        self,
        function: Literal["reshape", "transpose", "pad", "slice", "repeat", "take"],
        argument: Iterable[Any],
        *,
        activity_regularizer: Any = None,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None: ...

class ScaleShift(_ScaleShift):
    def __init__(
        self,
        shape: Iterable[int] = (),
        *,
        activity_regularizer: Any = None,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None: ...

class SpikingActivation(_SpikingActivation):
    def __init__(
        self,
        activation: Literal["linear", "relu"] | Callable[..., Any] | None,
        *,
        neuron: str | Neuron = "if",
        bias_per_place: bool = False,
        return_state: bool = False,
        stateful: bool = False,
        activity_regularizer: Any = None,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None: ...

class SpikingConv1D(_SpikingConv1D):
    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] | None = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | tuple[int, ...] = 1,
        groups: int = 1,
        activation: Literal["linear", "relu"] | Callable[..., Any] | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        neuron: str | Neuron = "if",
        bias_per_place: bool = False,
        return_state: bool = False,
        stateful: bool = False,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None: ...

class SpikingConv1DTranspose(_SpikingConv1DTranspose):
    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] | None = 1,
        padding: str = "valid",
        output_padding: int | tuple[int, ...] | None = None,
        data_format: str | None = None,
        dilation_rate: int | tuple[int, ...] = 1,
        activation: Literal["linear", "relu"] | Callable[..., Any] | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        neuron: str | Neuron = "if",
        bias_per_place: bool = False,
        return_state: bool = False,
        stateful: bool = False,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None: ...

class SpikingConv2D(_SpikingConv2D):
    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] | None = (1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | tuple[int, ...] = (1, 1),
        groups: int = 1,
        activation: Literal["linear", "relu"] | Callable[..., Any] | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        neuron: str | Neuron = "if",
        bias_per_place: bool = False,
        return_state: bool = False,
        stateful: bool = False,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None: ...

class SpikingConv2DTranspose(_SpikingConv2DTranspose):
    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] | None = (1, 1),
        padding: str = "valid",
        output_padding: int | tuple[int, ...] | None = None,
        data_format: str | None = None,
        dilation_rate: int | tuple[int, ...] = (1, 1),
        activation: Literal["linear", "relu"] | Callable[..., Any] | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        neuron: str | Neuron = "if",
        bias_per_place: bool = False,
        return_state: bool = False,
        stateful: bool = False,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None: ...

class SpikingConv3D(_SpikingConv3D):
    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] | None = (1, 1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | tuple[int, ...] = (1, 1, 1),
        groups: int = 1,
        activation: Literal["linear", "relu"] | Callable[..., Any] | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        neuron: str | Neuron = "if",
        bias_per_place: bool = False,
        return_state: bool = False,
        stateful: bool = False,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None: ...

class SpikingConv3DTranspose(_SpikingConv3DTranspose):
    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] | None = (1, 1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        output_padding: int | tuple[int, ...] | None = None,
        dilation_rate: int | tuple[int, ...] = (1, 1, 1),
        activation: Literal["linear", "relu"] | Callable[..., Any] | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        neuron: str | Neuron = "if",
        bias_per_place: bool = False,
        return_state: bool = False,
        stateful: bool = False,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None: ...

class SpikingDense(_SpikingDense):
    def __init__(
        self,
        units: int,
        activation: Literal["linear", "relu"] | Callable[..., Any] | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        *,
        neuron: str | Neuron = "if",
        bias_per_place: bool = False,
        return_state: bool = False,
        stateful: bool = False,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None: ...

class SpikingDepthwiseConv1D(_SpikingDepthwiseConv1D):
    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] | None = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: int | tuple[int, ...] = 1,
        activation: Literal["linear", "relu"] | Callable[..., Any] | None = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        neuron: str | Neuron = "if",
        bias_per_place: bool = False,
        return_state: bool = False,
        stateful: bool = False,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None: ...

class SpikingDepthwiseConv2D(_SpikingDepthwiseConv2D):
    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] | None = (1, 1),
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: int | tuple[int, ...] = (1, 1),
        activation: Literal["linear", "relu"] | Callable[..., Any] | None = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        neuron: str | Neuron = "if",
        bias_per_place: bool = False,
        return_state: bool = False,
        stateful: bool = False,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None: ...

class SpikingMaxPooling2D(_SpikingMaxPooling2D):
    def __init__(
        self,
        pool_size: int | tuple[int, ...] = (2, 2),
        strides: int | tuple[int, ...] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        *,
        method: Literal["exact", "fir", "avg", "exp"] = "exact",
        return_state: bool = False,
        stateful: bool = False,
        activity_regularizer: Any = None,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        trainable: bool = True,
    ) -> None: ...

class SpikingMaxPooling1D(_SpikingMaxPooling1D):
    def __init__(
        self,
        pool_size: int | tuple[int, ...] = 2,
        strides: int | tuple[int, ...] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        *,
        method: Literal["exact", "fir", "avg", "exp"] = "exact",
        return_state: bool = False,
        stateful: bool = False,
        activity_regularizer: Any = None,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        trainable: bool = True,
    ) -> None: ...

class SpikingMaxPooling3D(_SpikingMaxPooling3D):
    def __init__(
        self,
        pool_size: int | tuple[int, ...] = (2, 2, 2),
        strides: int | tuple[int, ...] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        *,
        method: Literal["exact", "fir", "avg", "exp"] = "exact",
        return_state: bool = False,
        stateful: bool = False,
        activity_regularizer: Any = None,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        trainable: bool = True,
    ) -> None: ...

class SpikingSeparableConv1D(_SpikingSeparableConv1D):
    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] | None = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | tuple[int, ...] = 1,
        depth_multiplier: int = 1,
        activation: Literal["linear", "relu"] | Callable[..., Any] | None = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        neuron: str | Neuron = "if",
        bias_per_place: bool = False,
        return_state: bool = False,
        stateful: bool = False,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None: ...

class SpikingSeparableConv2D(_SpikingSeparableConv2D):
    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] | None = (1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | tuple[int, ...] = (1, 1),
        depth_multiplier: int = 1,
        activation: Literal["linear", "relu"] | Callable[..., Any] | None = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        neuron: str | Neuron = "if",
        bias_per_place: bool = False,
        return_state: bool = False,
        stateful: bool = False,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None: ...

class SpikingSoftmax(_SpikingSoftmax):
    def __init__(
        self,
        axis: int | tuple[int, ...] = -1,
        *,
        method: Literal["potential", "poisson", "clock"] = "potential",
        delay: int = 0,
        seed: int = 0,
        scale: float | tuple[float, ...] = 1.0,
        weighting: Literal["uniform", "linear"] = "uniform",
        shift: float | tuple[float, ...] = 0.0,
        return_state: bool = False,
        stateful: bool = False,
        activity_regularizer: Any = None,
        autocast: bool = True,
        dtype: str | keras.DTypePolicy | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None: ...

SpikingMaxPool = SpikingMaxPooling2D
