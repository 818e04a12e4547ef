"""ResNet50 (He 2016) frozen, with a small head; as many normals as pneumonias; threshold at Youden's J."""

from trainer.data.augment import Augmentation
from trainer.recipes.backbone import BACKBONES, batch_normalisations, pretrained, stages, three_channels
from trainer.recipes.recipe import Monitor, Network, Phase, Recipe, Start
from trainer.statistics.operating_point import ThresholdRule
from worker.imaging.preprocess import Preprocessing

DROPOUT = 0.5


def build(start: Start) -> Network:
    """Global average pooling, 128 ReLU neurons and one neuron on the last feature map [N, 7, 7, 2048]."""
    from keras import Input, Model, layers

    image = Input((start.size, start.size, 1), dtype="uint8", name="image")
    backbone = pretrained(start)
    pixels = three_channels(image, BACKBONES[start.backbone].scaling)
    features = backbone(pixels)
    pooled = layers.GlobalAveragePooling2D(name="pooled")(features)
    hidden, neuron = layers.Dense(128, activation="relu", name="hidden"), layers.Dense(1, name="logit")
    logit = neuron(layers.Dropout(DROPOUT, name="dropout")(hidden(pooled)))
    frozen = batch_normalisations(backbone)
    both = stages(start, backbone, image, pixels)
    return Network(Model(image, logit), Model(image, features), (hidden, neuron), "average", frozen, backbone, both)


RESNET50_YOUDEN = Recipe(
    name="resnet50_youden",
    summary="ResNet50 from ImageNet weights, frozen; undersampled, balanced batches; Youden's J",
    published="official 624 test images: AUC 0.9434, accuracy 0.8798, sensitivity 0.92, specificity 0.81",
    preprocessing=Preprocessing(size=224),
    batch_size=32,
    batches="balanced",
    undersampled=True,
    label_smoothing=0.0,
    weight_decay=0.0,
    clip_norm=None,
    phases=(Phase("frozen", epochs=15, learning_rate=1e-3, trains="head", schedule="constant", patience=5),),
    augmentation=Augmentation(
        rotation_max_deg=15.0, shift_max=0.10, scale_max=0.10, flip_share=0.5, is_border_repeated=True
    ),
    monitor=Monitor.LOSS,
    threshold=ThresholdRule("youden"),
    backbone="resnet50",
    other_backbones=("mobilenetv2",),
    build=build,
)
