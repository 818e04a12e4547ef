"""MobileNetV2 (Sandler 2018): first the head, then the upper layers; the epoch is chosen on balanced validation images.

Its authors explained it by saliency maps. The model file computes Grad-CAM, as all others with average pooling.
"""

from trainer.data.augment import Augmentation
from trainer.recipes.backbone import BACKBONES, batch_normalisations, pretrained, stages, three_channels
from trainer.recipes.recipe import Monitor, Network, Phase, Recipe, Start
from trainer.statistics.operating_point import ThresholdRule
from worker.imaging.preprocess import Preprocessing

DROPOUT = 0.3


def build(start: Start) -> Network:
    """Global average pooling and one dense neuron on the last feature map [N, 7, 7, 1280]."""
    from keras import Input, Model, layers

    image = Input((start.size, start.size, 1), dtype="uint8", name="image")
    backbone = pretrained(start)
    pixels = three_channels(image, BACKBONES[start.backbone].scaling)
    features = backbone(pixels)
    pooled = layers.GlobalAveragePooling2D(name="pooled")(features)
    neuron = layers.Dense(1, name="logit")
    logit = neuron(layers.Dropout(DROPOUT, name="dropout")(pooled))
    frozen = batch_normalisations(backbone)
    both = stages(start, backbone, image, pixels)
    return Network(Model(image, logit), Model(image, features), (neuron,), "average", frozen, backbone, both)


MOBILENETV2_SALIENCY = Recipe(
    name="mobilenetv2_saliency",
    summary="MobileNetV2 from ImageNet weights, upper layers fine-tuned; balanced validation images",
    published="about 90 % accuracy, precision 0.94, recall 0.86, F1 0.89",
    preprocessing=Preprocessing(size=224),
    batch_size=32,
    batches="shuffled",
    balanced_validation=True,
    label_smoothing=0.0,
    weight_decay=0.0,
    clip_norm=None,
    phases=(
        Phase("frozen", epochs=5, learning_rate=1e-3, trains="head", schedule="constant"),
        Phase("layers from 100 on", epochs=10, learning_rate=1e-4, trains=100, schedule="constant", patience=4),
    ),
    augmentation=Augmentation(
        rotation_max_deg=15.0, scale_max=0.10, shift_max=0.10, flip_share=0.5, is_border_repeated=True
    ),
    monitor=Monitor.LOSS,
    threshold=ThresholdRule("fixed", 0.5),
    backbone="mobilenetv2",
    build=build,
)
