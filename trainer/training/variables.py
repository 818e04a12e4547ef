"""The variables of Keras as numpy arrays, and back."""

from typing import Any

import keras
import numpy as np

from trainer.training.checkpoint import Arrays


def values_of(variables: list[Any]) -> Arrays:
    """Copies of the values, in the order of the variables."""
    # copied first: Keras' variables do not support the array protocol of numpy 2 yet, and warn
    return [np.array(keras.ops.convert_to_numpy(keras.ops.copy(v))) for v in variables]


def assign(variables: list[Any], values: Arrays) -> None:
    """Give the variables these values; raises ValueError when there are more or fewer."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
