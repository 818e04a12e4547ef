"""EfficientNet-Lite0 whose evidence is local and lies in the lungs; made to hold on another hospital's images."""

from typing import Any

from trainer.data.augment import Augmentation
from trainer.recipes.backbone import BACKBONES, batch_normalisations, pretrained, three_channels
from trainer.recipes.recipe import Guests, Monitor, Network, Phase, Recipe, Start
from trainer.statistics.operating_point import ThresholdRule
from worker.imaging.preprocess import Fit, Preprocessing, Resize

DROPOUT = 0.3

#: Channels of the map that joins the last stage with the one of twice its resolution.
JOINED = 128

#: Image pixels to a side of one cell of the evidence.
CELL_PX = 16

#: Name and epochs of each fall of the learning rate to zero: warm restarts (Loshchilov & Hutter 2017, SGDR).
CYCLES = (("first cycle", 10), ("second cycle", 14), ("third cycle", 14))


def build(start: Start) -> Network:
    """Evidence on a map of a sixteenth of the image's side, pooled over the lungs.

    In training a second head judges the mean of the last map. It is not exported: it makes the features better, and
    with them the evidence.
    """
    from keras import Input, Model, layers

    from trainer.recipes.lung_field_pooling import FieldPooling, KnownCells
    from trainer.recipes.lung_net import FIELD_PX, IMAGE_PX, read_lung_net

    backbone, net = pretrained(start, any_size=True), read_lung_net(start.size)
    scaling = BACKBONES[start.backbone].scaling
    halfway = backbone.get_layer(BACKBONES[start.backbone].halfway).output
    maps = Model(backbone.input, [halfway, backbone.output], name="maps")
    evidence = _evidence(halfway.shape[-1], backbone.output.shape[-1])
    pooling = FieldPooling(name="logit")

    image = Input((start.size, start.size, 1), dtype="uint8", name="image")
    features = maps(three_channels(image, scaling))
    lungs = layers.Activation("sigmoid", name="lungs")(net(layers.Rescaling(1.0)(image)))
    field = layers.AveragePooling2D(CELL_PX * FIELD_PX // IMAGE_PX, name="field")(lungs)
    found = evidence(features)
    logit = pooling([found, field])

    view = Input((None, None, 3), dtype="uint8", name="view")
    shares = layers.AveragePooling2D(CELL_PX)(layers.Rescaling(1 / 255)(view))
    seen = maps(three_channels(view[..., :1], scaling))
    known = KnownCells()([evidence(seen), shares[..., 1:2], shares[..., 2:]])
    mean = layers.Dropout(DROPOUT)(layers.GlobalAveragePooling2D()(seen[1]))
    logits = [pooling([known, shares[..., 1:2]]), layers.Dense(1, name="whole_image")(mean)]
    return Network(
        model=Model(image, logit),
        trunk=Model(image, features[1]),
        head=tuple(layer for layer in evidence.layers if layer.weights),
        pooling="lung field",
        frozen=(*batch_normalisations(backbone), *net.layers),
        backbone=backbone,
        stages=Model(image, features),
        taught=Model(view, layers.Concatenate()(logits)),
        local=Model(image, [features[0], found, field, logit, lungs]),
    )


def _evidence(halfway_channels: int, last_channels: int) -> Any:
    """From the maps of a sixteenth and of a 32nd of the side to one logit for each cell of the finer one."""
    from keras import Input, Model, layers

    halfway, last = Input((None, None, halfway_channels)), Input((None, None, last_channels))
    coarse = layers.Conv2D(JOINED, 1, name="coarse")(layers.SpatialDropout2D(DROPOUT)(last))
    fine = layers.Conv2D(JOINED, 1, name="fine")(halfway)
    joined = layers.ReLU(6.0)(layers.Add()([layers.UpSampling2D()(coarse), fine]))
    smoothed = layers.DepthwiseConv2D(3, padding="same", name="smooth")(joined)
    mixed = layers.Conv2D(JOINED, 1, activation="relu", name="mix")(smoothed)
    found = layers.Conv2D(1, 1, name="evidence")(layers.SpatialDropout2D(DROPOUT / 3)(mixed))
    return Model([halfway, last], found, name="local_evidence")


EFFICIENTNET_LITE0_LUNGS = Recipe(
    name="efficientnet_lite0_lungs",
    summary="EfficientNet-Lite0 from ImageNet weights; its evidence is local and within the lungs",
    preprocessing=Preprocessing(size=224, fit=Fit.STRETCH, resize=Resize.PYRAMID53),
    batch_size=32,
    label_smoothing=0.05,
    weight_decay=1e-4,
    phases=tuple(Phase(name, epochs, learning_rate=1.5e-4, trains="all") for name, epochs in CYCLES),
    monitor=Monitor.LAST,
    guests=Guests(positives=0.06, negatives=0.12),
    threshold=ThresholdRule("sensitivity", 0.98),
    prevalence=0.5,
    augmentation=Augmentation(
        fourier_share=0.45,
        histogram_share=0.30,
        area_min=0.15,
        surroundings_share=0.6,
        halves_share=0.15,
        rotation_max_deg=12.0,
        scale_max=0.12,
        shift_max=0.06,
        flip_share=0.5,
        is_border_repeated=True,
        gamma_share=0.5,
        contrast_share=0.3,
        blur_share=0.25,
        sharpen_share=0.2,
        noise_share=0.2,
        resample_share=0.4,
        jpeg_share=0.6,
        erase_share=0.5,
        marker_share=0.1,
    ),
    backbone="efficientnet_lite0",
    build=build,
)
