"""Layers that do nothing after training: dropout, noise and augmentation."""

import functools

from keras import layers

from keras_snn.graph.rules import common
from keras_snn.graph.rules.registry import Refusal, rule

_SPATIAL = {1: (9, 3), 2: (7, 8, 3), 3: (5, 4, 6, 2)}
_training = functools.partial(rule, "Acts in training only")


def lower_identity(layer, x, *, emit):
    return x


for _class, _arguments, _shape in (
    (layers.Dropout, (0.5,), (6,)),
    (layers.SpatialDropout1D, (0.5,), _SPATIAL[1]),
    (layers.SpatialDropout2D, (0.5,), _SPATIAL[2]),
    (layers.SpatialDropout3D, (0.5,), _SPATIAL[3]),
    (layers.AlphaDropout, (0.5,), (6,)),
    (layers.GaussianDropout, (0.5,), (6,)),
    (layers.GaussianNoise, (0.5,), (6,)),
    (layers.ActivityRegularization, (0.1,), (6,)),
    (layers.Identity, (), (6,)),
):
    _training(_class, (functools.partial(_class, *_arguments), _shape))(lower_identity)
_training("StochasticDepth")(lower_identity)

# With what each is made in the examples. The oldest Keras does not have all of them. What is not
# here, as AutoContrast, does the same in `predict` as in training.
_AUGMENTATION = {
    "AugMix": (), "CutMix": (), "MaxNumBoundingBoxes": (3,), "MixUp": (), "RandAugment": (),
    "RandomBrightness": (0.1,), "RandomColorDegeneration": (0.5,), "RandomColorJitter": (),
    "RandomContrast": (0.1,), "RandomElasticTransform": (), "RandomErasing": (), "RandomFlip": (),
    "RandomGaussianBlur": (), "RandomGrayscale": (), "RandomHue": (0.1,), "RandomInvert": (),
    "RandomPerspective": (), "RandomPosterization": (3,), "RandomRotation": (0.1,),
    "RandomSaturation": (0.1,), "RandomSharpness": (0.1,), "RandomShear": (0.1,),
    "RandomTranslation": (0.1, 0.1), "RandomZoom": (0.1,), "Solarization": (),
}  # fmt: skip


def augmentation_arguments(name):
    """Return the arguments that examples make a layer of augmentation with."""
    return _AUGMENTATION.get(name, ())


for _keras_name, _arguments in _AUGMENTATION.items():
    if hasattr(layers, _keras_name):
        _class = getattr(layers, _keras_name)
        _training(_class, (functools.partial(_class, *_arguments), (6, 6, 3)))(lower_identity)


@_training(layers.RandomCrop, (lambda: layers.RandomCrop(6, 5), (6, 5, 3)))
def lower_random_crop(layer, x, *, emit):
    common.need_channels_last(layer)
    size = (layer.height, layer.width)
    if x.shape[:2] != size:
        raise Refusal(
            f"crops {x.shape[0]}×{x.shape[1]} to {size[0]}×{size[1]} in training only",
            "crop with CenterCrop",
            may_stay=False,
        )
    return x
