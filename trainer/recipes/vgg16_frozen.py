"""VGG16 (Simonyan 2015) frozen, with one sigmoid neuron; recall decides the epoch and when to stop."""

from trainer.data.augment import Augmentation
from trainer.recipes.backbone import BACKBONES, batch_normalisations, pretrained, stages, three_channels
from trainer.recipes.recipe import Monitor, Network, Phase, Recipe, Start
from trainer.statistics.operating_point import ThresholdRule
from worker.imaging.preprocess import Preprocessing


def build(start: Start) -> Network:
    """Flatten and one dense neuron on the last feature map [N, 7, 7, 512]; pixels in [0, 1] as published.

    Another backbone gets the pixels that its own weights expect.
    """
    from keras import Input, Model, layers

    image = Input((start.size, start.size, 1), dtype="uint8", name="image")
    backbone = pretrained(start)
    scaling = "zero_to_one" if start.backbone == "vgg16" else BACKBONES[start.backbone].scaling
    pixels = three_channels(image, scaling)
    features = backbone(pixels)
    neuron = layers.Dense(1, name="logit")
    logit = neuron(layers.Flatten(name="flat")(features))
    frozen = batch_normalisations(backbone)
    both = stages(start, backbone, image, pixels)
    return Network(Model(image, logit), Model(image, features), (neuron,), "flatten", frozen, backbone, both)


VGG16_FROZEN = Recipe(
    name="vgg16_frozen",
    summary="VGG16 from ImageNet weights, frozen; flatten, one neuron; stopped by recall",
    published="official 624 test images: recall 98.46 %, accuracy 91.02 %, precision 88.48 %",
    preprocessing=Preprocessing(size=224),
    batch_size=32,
    batches="shuffled",
    label_smoothing=0.0,
    weight_decay=0.0,
    clip_norm=None,
    phases=(Phase("frozen", epochs=20, learning_rate=1e-3, trains="head", schedule="constant", patience=3),),
    augmentation=Augmentation(rotation_max_deg=20.0, scale_max=0.20, flip_share=0.5, is_border_repeated=True),
    monitor=Monitor.RECALL,
    threshold=ThresholdRule("fixed", 0.5),
    backbone="vgg16",
    other_backbones=("mobilenetv2",),
    build=build,
)
