"""MobileNetV2 (Sandler 2018) from ImageNet weights, all layers fine-tuned on style-robust views at 224 px."""

from pathlib import Path

from trainer.augment import Augmentation
from trainer.recipe import Network, Phase, Recipe
from trainer.weights import fetch, load
from worker.imaging.preprocess import Fit, Preprocessing, Resize

DROPOUT = 0.2

#: Keras' own ImageNet weights, fetched once when no --weights is given.
IMAGENET_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
    "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
)


def build(weights: Path | None) -> Network:
    """Global average pooling and one dense neuron on the last feature map [N, 7, 7, 1280].

    `weights`: Keras weights of the backbone without top. Batch normalisation is frozen in inference mode: weights with
    folded statistics do not survive batch statistics, and 32 images are a poor sample of them anyhow.
    """
    from keras import Input, Model, applications, layers

    backbone = applications.MobileNetV2(weights=None, include_top=False, input_shape=(224, 224, 3))
    load(backbone, weights or fetch(IMAGENET_URL))
    image = Input((224, 224, 1), dtype="uint8", name="image")
    scaled = layers.Rescaling(1 / 127.5, offset=-1.0, name="minus_one_to_one")(image)
    features = backbone(layers.Concatenate(name="grey_to_rgb")([scaled, scaled, scaled]))
    pooled = layers.GlobalAveragePooling2D(name="pooled")(features)
    neuron = layers.Dense(1, name="logit")
    logit = neuron(layers.Dropout(DROPOUT, name="dropout")(pooled))
    frozen = tuple(layer for layer in backbone.layers if isinstance(layer, layers.BatchNormalization))
    return Network(Model(image, logit), Model(image, features), (neuron,), "average", frozen)


MOBILENETV2_HOUSE = Recipe(
    name="mobilenetv2_house",
    summary="MobileNetV2 from ImageNet weights, fine-tuned whole, style-robust; small and quick",
    preprocessing=Preprocessing(size=224, fit=Fit.STRETCH, resize=Resize.LINEAR),
    batch_size=32,
    label_smoothing=0.02,
    weight_decay=0.01,
    phases=(
        Phase("head", epochs=1, learning_rate=1e-3, trains="head"),
        Phase("whole network", epochs=6, learning_rate=2e-4, trains="all"),
    ),
    augmentation=Augmentation(),
    build=build,
)
