"""A network, a recipe and fit options so small that a test trains them in seconds."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from trainer.data.manifest import Origin
from trainer.recipes.mobilenetv2_house import MOBILENETV2_HOUSE
from trainer.recipes.recipe import Network, Phase, Recipe
from trainer.run.run import FitOptions
from worker.imaging.preprocess import Preprocessing

SIZE = 32
Event = dict[str, Any]


def toy(pooling: str = "average") -> Network:
    """Two convolutions to [8, 8, 6], then pooling or flattening and two dense layers."""
    image = keras.Input((SIZE, SIZE, 1), dtype="uint8", name="image")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    features = keras.layers.Conv2D(6, 3, strides=2, padding="same", activation="relu")(x)
    average = pooling == "average"
    pooled = (keras.layers.GlobalAveragePooling2D() if average else keras.layers.Flatten())(features)
    hidden, neuron = keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)
    logit = neuron(keras.layers.Dropout(0.1)(hidden(pooled)))
    way: Any = pooling
    return Network(keras.Model(image, logit), keras.Model(image, features), (hidden, neuron), way)


RECIPE = Recipe(
    name="toy",
    summary="for tests",
    preprocessing=Preprocessing(size=SIZE),
    batch_size=8,
    label_smoothing=0.0,
    weight_decay=0.0,
    phases=(Phase("head", 1, 1e-2, "head"), Phase("all", 3, 2e-2, "all")),
    augmentation=replace(
        MOBILENETV2_HOUSE.augmentation, fourier_share=0.1, histogram_share=0.0, gamma_share=0.0, contrast_share=0.0
    ),
    build=lambda _: toy(),
)


def fit_options(images: Path, out: Path, **changes: Any) -> FitOptions:
    return replace(
        FitOptions(data=images, recipe=RECIPE, out=out, origin=Origin(attribution="made by a test")), **changes
    )
