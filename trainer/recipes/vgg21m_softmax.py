"""The thirteen convolutions of VGG16 (Simonyan 2015) from random weights, with two softmax neurons."""

from trainer.data.augment import Augmentation
from trainer.recipes.recipe import Monitor, Network, Phase, Recipe, Start
from trainer.statistics.operating_point import ThresholdRule
from worker.imaging.preprocess import Preprocessing

#: Widths of the convolutions between two poolings.
BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def build(start: Start) -> Network:
    """To [N, 7, 7, 512], then flatten, 256, 64 and two neurons: 21,154,050 parameters at 224 px.

    The logit is that of the second neuron minus that of the first. The initial weights are normal (He 2015): with the
    default of Keras the signal vanishes over thirteen layers without normalisation.
    """
    from keras import Input, Model, layers

    image = Input((start.size, start.size, 1), dtype="uint8", name="image")
    scaled = layers.Rescaling(1 / 255, name="zero_to_one")(image)
    x = layers.Concatenate(name="grey_to_rgb")([scaled, scaled, scaled])
    blocks = []
    for widths in BLOCKS:
        for width in widths:
            x = layers.Conv2D(width, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)
        x = layers.MaxPooling2D()(x)
        blocks.append(x)
    head = (
        layers.Dense(256, activation="relu", name="hidden_256"),
        layers.Dense(64, activation="relu", name="hidden_64"),
        layers.Dense(2, name="softmax_logits"),
    )
    both = layers.Flatten(name="flat")(x)
    for layer in head:
        both = layer(both)
    logit = both[:, 1:] - both[:, :1]
    return Network(Model(image, logit), Model(image, x), head, "flatten", stages=Model(image, blocks[-2:]))


VGG21M_SOFTMAX = Recipe(
    name="vgg21m_softmax",
    summary="VGG16's convolutions from scratch, two softmax neurons; 21,154,050 parameters",
    published="its own random split: accuracy 97.7 %",
    preprocessing=Preprocessing(size=224),
    batch_size=32,
    batches="shuffled",
    label_smoothing=0.0,
    weight_decay=0.0,
    clip_norm=None,
    phases=(Phase("from scratch", epochs=13, learning_rate=1e-4, trains="all", schedule="constant"),),
    augmentation=Augmentation(),
    monitor=Monitor.LOSS,
    threshold=ThresholdRule("fixed", 0.5),
    build=build,
)
