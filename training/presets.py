"""Named training configurations with the published numbers, and `auto`, which follows from resolution and batch.

ADA's are the columns of its Figure 24; what that table leaves open is as in StyleGAN2, Appendix B. Stated deviations:
every preset ramps the generator's moving average up (the paper: CIFAR-10 only; it ends within 400 thousand images at
half-lives of 10 and 20), and computes in fp32 unless fp16, which is the paper's, or bf16 is asked for, then in the
four highest resolutions; the clamp that fp16 needs is kept. x-flips are the data's matter: on where the table has them
for the preset's data sets. The groups of the minibatch standard deviation are as large as the table has them, on
however many GPUs.
"""

from dataclasses import replace
from typing import Any

from generator.imagesets import ImageSet
from generator.networks import CONFIG_E, CONFIG_F, GeneratorConfig
from training.augment import BGC
from training.config import TrainingConfig
from training.dataset import first_resolution
from training.labels import Labels, read_labels

FOUR_HIGHEST = 4  # ADA, Appendix D.1: the resolutions that take fp16
CLAMP = 256  # ADA, Appendix D.1: 2^8, the limit of every convolution's output

# Figure 24, "feature maps": 1x is configuration F, 30 million parameters in G. Its text gives 2^16 / sqrt(N) for 1x and
# 2^15 / sqrt(N) for 1/2x, which read as a base over the width is twice F's own: F itself decides.
FULL, HALF = CONFIG_F.channel_base, CONFIG_F.channel_base // 2

_ADA = TrainingConfig(
    network=GeneratorConfig(clamp=CLAMP),
    augment=BGC,  # section 4: pixel blitting, geometry and colour
    ada_target=0.6,
    ada_interval=4,
    ada_kimg=500,
    style_mixing=0.9,
    path_length=2,
    kimg=25000,
    half_resolutions=FOUR_HIGHEST,
)


def _ada(resolution: int, channel_base: int, **settings: Any) -> TrainingConfig:
    network = replace(_ADA.network, resolution=resolution, channel_base=channel_base)
    return replace(_ADA, network=network, **settings)


PRESETS = {
    # the recipe of the bundled generators: 64x64 from a few thousand images on a CPU
    "small-64": TrainingConfig(
        network=GeneratorConfig(
            resolution=64, z_dim=128, w_dim=128, mapping_layers=2, channel_base=2048, channel_max=128
        ),
        batch=16,
        lr=0.0025,
        gamma=0.3,
        path_length_interval=4,
        ema_kimg=5,
        style_mixing=0,
        precision="bf16",
        augment=BGC,
        kimg=200,
    ),
    # StyleGAN2, Appendix B; gamma: 10 for all runs except those of configuration E in Table 1
    "stylegan2-e": TrainingConfig(network=CONFIG_E, gamma=100, half_resolutions=FOUR_HIGHEST),
    "stylegan2-f": TrainingConfig(network=CONFIG_F, half_resolutions=FOUR_HIGHEST),
    # ADA, Figure 24: "our baseline", "BreCaHAD, AFHQ", "MetFaces"
    "ada-256": _ada(256, HALF, batch=64, mbstd_group_size=8, lr=0.0025, gamma=1, ema_kimg=20),
    "ada-512": _ada(512, FULL, batch=64, mbstd_group_size=8, lr=0.0025, gamma=0.5, ema_kimg=20, x_flip=True),
    "ada-1024": _ada(1024, FULL, batch=32, mbstd_group_size=4, lr=0.002, gamma=2, ema_kimg=10, x_flip=True),
    # ADA, Figure 24: "CIFAR-10 + tuning"; 512 feature maps in all layers; the ramp-up lasts 10 million images
    "cifar": replace(
        _ADA,
        network=GeneratorConfig(resolution=32, mapping_layers=2, channel_base=512 * 32, channel_max=512, clamp=CLAMP),
        batch=64,
        mbstd_group_size=32,
        lr=0.0025,
        gamma=0.01,
        ema_kimg=500,
        ema_rampup=0.05,
        style_mixing=0,
        path_length=0,
        residual_d=False,
        kimg=100000,
    ),
}
NAMES = (*PRESETS, "auto")
NETWORK_SETTINGS = ("resolution", "c_dim", "mapping_layers")

# what a loss other than the preset's brings along (wgan-gp: ADA, Appendix D.2)
WITH_LOSS: dict[str, dict[str, Any]] = {
    "lsgan": {"augment": ()},
    "wgan-gp": {"augment": (), "gamma": 0, "lr": 0.001, "precision": "fp32"},
}


# what a regulariser brings along (ADA, Appendix D.2)
WITH_REGULARISER: dict[str, dict[str, Any]] = {
    "zcr": {"precision": "fp32"},
    "rotation": {"augment": ()},
    "pa-gan": {"augment": (), "ada_target": 0.95},
    "dropout": {"augment": (), "ada_target": 0.6},
}


def auto(resolution: int, batch: int | None = None) -> TrainingConfig:
    """Settings for any data, from resolution and batch (None: Figure 24's, 64 below 1024 and 32 there).

    gamma: ADA's first guess, 0.0002 N / M for N pixels and batch M (Appendix D.1). Learning rate, feature maps: Figure
    24's at that resolution. Moving average: a half-life of 312.5 steps, which is Figure 24's 10k at batch 32 and 20k at
    64. Mapping depth: 2, "a good default choice for future work" (Appendix D.2).
    """
    batch = (32 if resolution >= 1024 else 64) if batch is None else batch
    settings = _ada(
        resolution,
        FULL if resolution >= 512 else HALF,
        batch=batch,
        lr=0.002 if resolution >= 1024 else 0.0025,
        gamma=0.0002 * resolution**2 / batch,
        ema_kimg=batch * 10 / 32,
    )
    return replace(settings, network=replace(settings.network, mapping_layers=2))


def resolve_for(
    images: ImageSet, name: str, conditional: bool, asked: dict[str, Any], init: GeneratorConfig | None = None
) -> tuple[TrainingConfig, Labels | None]:
    """Settings for a set of images, and their labels for a conditional model.

    init: of the generator that the run starts from, whose network is then the run's. `auto` takes the resolution of the
    first image, where none is asked for. Raises ValueError as `resolve` and `read_labels`, and where another network
    is asked for than init.
    """
    if init:
        for setting in ("resolution", "mapping_layers"):
            found, expected = asked.get(setting), getattr(init, setting)
            if found not in (None, expected):
                option = setting.replace("_", "-")
                raise ValueError(f"--{option}: found {found}, expected {expected}, as in the file of --init")
        asked = asked | {"resolution": init.resolution}
    elif name == "auto" and "resolution" not in asked:
        asked = asked | {"resolution": first_resolution(images)}
    labels = read_labels(images) if conditional else None
    config = resolve(name, asked | ({"c_dim": len(labels.names)} if labels else {}))
    if init:
        own = config.network
        clamp = own.clamp if init.clamp is None else init.clamp
        config = replace(config, network=replace(init, c_dim=own.c_dim, clamp=clamp))
    return config, labels


def resolve(name: str, asked: dict[str, Any]) -> TrainingConfig:
    """A preset with the settings that were asked for in place of its own; resolution, c_dim and mapping_layers are the
    network's, and fp16 brings its clamp along.

    Raises ValueError that begins with the option, where there is no such preset or value.
    """
    if name not in NAMES:
        raise ValueError(f"--config: found {name!r}, expected one of {', '.join(NAMES)}")
    asked = WITH_LOSS.get(asked.get("loss", ""), {}) | asked
    for regulariser in asked.get("regularise", ()):
        asked = WITH_REGULARISER.get(regulariser, {}) | asked
    network = {setting: asked.pop(setting) for setting in NETWORK_SETTINGS if setting in asked}
    if asked.get("batch", 1) < 1:
        raise ValueError(f"--batch: found {asked['batch']}, expected at least 1")
    try:
        preset = auto(network.get("resolution", 256), asked.get("batch")) if name == "auto" else PRESETS[name]
        if asked.get("precision") == "fp16" and preset.network.clamp is None:
            network["clamp"] = CLAMP
        return replace(preset, network=replace(preset.network, **network), **asked)
    except ValueError as error:  # begins with the setting, which has its option's name
        setting, _, rest = str(error).partition(":")
        raise ValueError(f"--{setting.replace('_', '-')}:{rest}") from error
