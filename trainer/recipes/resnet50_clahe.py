"""ResNet50 (He 2016) on contrast-limited equalised images: first the head, then the upper layers at a small rate."""

from trainer.data.augment import Augmentation
from trainer.recipes.backbone import BACKBONES, batch_normalisations, pretrained, stages, three_channels
from trainer.recipes.recipe import Monitor, Network, Phase, Plateau, Recipe, Start
from trainer.statistics.operating_point import ThresholdRule
from worker.imaging.preprocess import Preprocessing

DROPOUT = 0.5


def build(start: Start) -> Network:
    """Global average pooling, 256 ReLU neurons and one neuron on the last feature map [N, 7, 7, 2048]."""
    from keras import Input, Model, layers

    image = Input((start.size, start.size, 1), dtype="uint8", name="image")
    backbone = pretrained(start)
    pixels = three_channels(image, BACKBONES[start.backbone].scaling)
    features = backbone(pixels)
    pooled = layers.GlobalAveragePooling2D(name="pooled")(features)
    hidden, neuron = layers.Dense(256, activation="relu", name="hidden"), layers.Dense(1, name="logit")
    logit = neuron(layers.Dropout(DROPOUT, name="dropout")(hidden(pooled)))
    frozen = batch_normalisations(backbone)
    both = stages(start, backbone, image, pixels)
    return Network(Model(image, logit), Model(image, features), (hidden, neuron), "average", frozen, backbone, both)


RESNET50_CLAHE = Recipe(
    name="resnet50_clahe",
    summary="CLAHE; ResNet50 from ImageNet weights, layers from 120 on fine-tuned; class weights",
    published="a 15 % re-split of all 5,856 images: accuracy 94.31 %, recall 98.6 %, precision 93.9 %",
    preprocessing=Preprocessing(size=224, clahe_clip=2.0, clahe_tiles=8),
    batch_size=32,
    batches="shuffled",
    class_weighted=True,
    label_smoothing=0.0,
    weight_decay=0.0,
    clip_norm=None,
    phases=(
        Phase("frozen", epochs=5, learning_rate=1e-3, trains="head", schedule="constant"),
        Phase(
            "layers from 120 on",
            epochs=60,
            learning_rate=1e-5,
            trains=120,
            schedule="constant",
            patience=10,
            plateau=Plateau(factor=0.5, patience=3, lowest=1e-7),
        ),
    ),
    augmentation=Augmentation(
        rotation_max_deg=15.0, shift_max=0.10, shear_max=0.10, scale_max=0.10, is_border_repeated=True
    ),
    monitor=Monitor.LOSS,
    threshold=ThresholdRule("fixed", 0.5),
    backbone="resnet50",
    other_backbones=("mobilenetv2",),
    build=build,
)
