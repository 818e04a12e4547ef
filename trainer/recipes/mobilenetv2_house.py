"""The default recipe: MobileNetV2 (Sandler 2018) from ImageNet weights, all layers fine-tuned, styles balanced."""

from trainer.data.augment import Augmentation
from trainer.recipes.backbone import BACKBONES, batch_normalisations, pretrained, stages, three_channels
from trainer.recipes.recipe import Network, Phase, Recipe, Start
from worker.imaging.preprocess import Fit, Preprocessing, Resize

DROPOUT = 0.2


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


MOBILENETV2_HOUSE = Recipe(
    name="mobilenetv2_house",
    summary="MobileNetV2 from ImageNet weights, fine-tuned whole, style-robust; small and quick",
    preprocessing=Preprocessing(size=224, fit=Fit.STRETCH, resize=Resize.LINEAR),
    batch_size=32,
    batches="style balanced",
    label_smoothing=0.02,
    weight_decay=0.01,
    phases=(
        Phase("head", epochs=1, learning_rate=1e-3, trains="head"),
        Phase("whole network", epochs=5, learning_rate=2e-4, trains="all"),
    ),
    augmentation=Augmentation(
        fourier_share=0.45,
        fourier_band=0.1,
        histogram_share=0.30,
        crop_max=0.12,
        rotation_max_deg=10.0,
        scale_max=0.12,
        shear_max=0.06,
        flip_share=0.5,
        gamma_share=0.5,
        contrast_share=0.3,
        blur_share=0.2,
        sharpen_share=0.15,
        noise_share=0.2,
        resample_share=0.5,
        jpeg_share=0.6,
        erase_share=0.6,
        marker_share=0.3,
    ),
    backbone="mobilenetv2",
    build=build,
)
