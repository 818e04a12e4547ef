"""EfficientNet-Lite0 (Tan & Le 2019; the Lite variants of 2020 have no swish and no squeeze-and-excitation), in Keras.

`keras.applications` does not have it. Layers are named as in the published weights file, which loads by name.
"""

from typing import Any, NamedTuple

#: Epsilon of batch normalisation, as in the training of the weights.
EPSILON = 1e-3


class Stage(NamedTuple):
    """Inverted residual blocks of one kind; only the first has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STEM_CHANNELS, HEAD_CHANNELS = 32, 1280

STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)

#: Layer that ends the last stage with a map of a sixteenth of the image's side, [N, h / 16, w / 16, 112].
SIXTEENTH = "b10_add"


def efficientnet_lite0(input_shape: tuple[int | None, int | None, int]) -> Any:
    """The convolutions, without head: from [N, h, w, 3], scaled to (x - 127) / 128, to [N, h / 32, w / 32, 1280]."""
    from keras import Input, Model

    image = Input(input_shape)
    values = _convolution(image, "stem", STEM_CHANNELS, 3, stride=2)
    number = 0
    for stage in STAGES:
        for block in range(stage.blocks):
            values = _block(values, f"b{number}", stage, stage.stride if block == 0 else 1)
            number += 1
    return Model(image, _convolution(values, "head", HEAD_CHANNELS, 1), name="lite0")


def _block(values: Any, name: str, stage: Stage, stride: int) -> Any:
    """An inverted residual block (Sandler 2018): expand, depthwise convolution, project, add the input."""
    from keras import layers

    block_input, channels = values, values.shape[-1]
    if stage.expansion != 1:
        values = _convolution(values, f"{name}_exp", channels * stage.expansion, 1)
    depthwise = layers.DepthwiseConv2D(stage.kernel, stride, padding="same", use_bias=False, name=f"{name}_dw")
    values = _normalised(depthwise(values), f"{name}_dw")
    values = _convolution(values, f"{name}_proj", stage.channels, 1, is_linear=True)
    if stride == 1 and channels == stage.channels:
        values = layers.Add(name=f"{name}_add")([values, block_input])
    return values


def _convolution(values: Any, name: str, channels: int, kernel: int, stride: int = 1, is_linear: bool = False) -> Any:
    from keras import layers

    values = layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False, name=name)(values)
    return _normalised(values, name, is_linear)


def _normalised(values: Any, name: str, is_linear: bool = False) -> Any:
    """Batch normalisation and, unless linear, ReLU6."""
    from keras import layers

    values = layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_bn")(values)
    return values if is_linear else layers.ReLU(6.0, name=f"{name}_act")(values)
