"""The pretrained networks that recipes use: where Keras publishes their weights, and which pixels they expect."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.recipes.efficientnet_lite import SIXTEENTH, efficientnet_lite0
from trainer.recipes.recipe import Start
from trainer.recipes.weights import fetch, load
from worker.errors import BadSetting

#: Instead of a weights file: random initial weights, for tests and comparisons.
RANDOM = Path("random")

_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"


@dataclass(frozen=True)
class Backbone:
    """One network with ImageNet weights."""

    application: str  #: its name in `keras.applications`; empty: EfficientNet-Lite0, which is not there
    url: str  #: of its ImageNet weights without the head; empty: there is no Keras file to download
    scaling: str  #: a key of SCALINGS: the input that those weights expect
    halfway: str  #: layer whose map has a sixteenth of the image's side; familiarity is computed from it


#: Scale, and the offset of each of three channels.
SCALINGS: dict[str, tuple[float, tuple[float, float, float]]] = {
    "zero_to_one": (1 / 255, (0.0, 0.0, 0.0)),
    "minus_one_to_one": (1 / 127.5, (-1.0, -1.0, -1.0)),
    "around_zero": (1 / 128, (-127 / 128, -127 / 128, -127 / 128)),
    "imagenet_means": (1.0, (-103.939, -116.779, -123.68)),  # blue, green, red, as in Caffe
}

BACKBONES = {
    "mobilenetv2": Backbone(
        "MobileNetV2",
        f"{_KERAS}/mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
        "minus_one_to_one",
        "block_13_expand_relu",
    ),
    "efficientnet_lite0": Backbone("", "", "around_zero", SIXTEENTH),
    "resnet50": Backbone(
        "ResNet50",
        f"{_KERAS}/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "imagenet_means",
        "conv4_block6_out",
    ),
    "vgg16": Backbone(
        "VGG16",
        f"{_KERAS}/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "imagenet_means",
        "block4_pool",
    ),
}


def pretrained(start: Start, any_size: bool = False) -> Any:
    """The backbone of `start` as a Keras model from [N, size, size, 3] to its last feature map, weights loaded.

    With `any_size` the sides are not fixed. Raises BadSetting when the weights can be neither read nor downloaded.
    """
    backbone = BACKBONES[start.backbone]
    shape = (None, None, 3) if any_size else (start.size, start.size, 3)
    model = _without_weights(backbone, shape)
    if start.weights == RANDOM:
        return model
    if start.weights is None and not backbone.url:
        message = f"{start.backbone} has no weights to download: pass --weights FILE (trainer/recipes/README.md)"
        raise BadSetting(message)
    load(model, start.weights or fetch(backbone.url))
    return model


def _without_weights(backbone: Backbone, shape: tuple[int | None, int | None, int]) -> Any:
    from keras import applications

    if not backbone.application:
        return efficientnet_lite0(shape)
    return getattr(applications, backbone.application)(weights=None, include_top=False, input_shape=shape)


def stages(start: Start, backbone: Any, image: Any, pixels: Any) -> Any:
    """A model from `image` to the halfway and the last map of the backbone of `start`, whose input is `pixels`.

    It shares the layers of the backbone and adds none.
    """
    from keras import Model

    halfway = backbone.get_layer(BACKBONES[start.backbone].halfway).output
    return Model(image, Model(backbone.input, [halfway, backbone.output])(pixels))


def three_channels(image: Any, scaling: str) -> Any:
    """The grey image [N, size, size, 1] uint8 as three channels, scaled by one of SCALINGS."""
    from keras import layers

    scale, offsets = SCALINGS[scaling]
    scaled = {offset: layers.Rescaling(scale, offset=offset)(image) for offset in offsets}
    return layers.Concatenate(name="grey_to_rgb")([scaled[offset] for offset in offsets])


def batch_normalisations(model: Any) -> tuple[Any, ...]:
    """The batch normalisation layers of a model, which stay in inference mode.

    Pretrained weights fit the stored statistics, and the statistics of a batch of 32 images are a poor estimate.
    """
    from keras import layers

    return tuple(layer for layer in model.layers if isinstance(layer, layers.BatchNormalization))
