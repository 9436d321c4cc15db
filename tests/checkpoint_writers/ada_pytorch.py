"""stylegan2-ada-pytorch pickles: every module is a call with its class's source text and its attributes.

The stylegan3 repository writes the same, with the synthesis network's options beside the generator's own.
"""

import re
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.checkpoint_writers.pickles import Called, Name, dumps, easy_dict

SOURCE = "raise RuntimeError('the source text stored in a checkpoint was executed')\n"
BUFFERS = {"resample_filter", "noise_const", "w_avg", "up_filter", "down_filter", "magnitude_ema"}
BUFFERS |= {"freqs", "phases", "transform", "Hz_geom", "Hz_fbank", "p"}
CLASSES = [  # of the last matching path
    (r"", "Generator"),
    (r"mapping", "MappingNetwork"),
    (r"synthesis", "SynthesisNetwork"),
    (r"synthesis\.b\d+", "SynthesisBlock"),
    (r".*\.conv\d", "SynthesisLayer"),
    (r".*\.torgb", "ToRGBLayer"),
    (r".*\.(affine|fc\d+|embed)", "FullyConnectedLayer"),
    (r"synthesis\.L\d+_\d+_\d+", "SynthesisLayer"),
    (r"synthesis\.input", "SynthesisInput"),
]
DISCRIMINATOR_CLASSES = [
    (r"", "Discriminator"),
    (r"mapping", "MappingNetwork"),
    (r"b\d+", "DiscriminatorBlock"),
    (r"b4", "DiscriminatorEpilogue"),
    (r".*\.(fromrgb|conv\d?|skip)", "Conv2dLayer"),
    (r".*\.(fc\d*|out|embed)", "FullyConnectedLayer"),
    (r"b4\.mbstd", "MinibatchStdLayer"),
]


def persistent(class_name: str, state: dict[str, Any], source: str = SOURCE) -> Called:
    meta = {"type": "class", "version": 6, "module_src": source, "class_name": class_name, "state": state}
    return Called(Name("torch_utils.persistence", "_reconstruct_persistent_obj"), (meta,))


def module_state(tensors: dict[str, Tensor], children: dict[str, Called], attributes: dict[str, Any]) -> dict[str, Any]:
    """A module's __dict__."""
    parameters = {n: nn.Parameter(t, requires_grad=False) for n, t in tensors.items() if n not in BUFFERS}
    hooks = (
        "_backward_hooks",
        "_forward_hooks",
        "_forward_pre_hooks",
        "_state_dict_hooks",
        "_load_state_dict_pre_hooks",
    )
    return {
        "training": False,
        "_parameters": OrderedDict(parameters),
        "_buffers": OrderedDict((n, t) for n, t in tensors.items() if n in BUFFERS),
        "_non_persistent_buffers_set": set(),
        **{name: OrderedDict() for name in hooks},
        "_is_full_backward_hook": None,
        "_modules": OrderedDict(children),
        **attributes,
    }


class Writer:
    """One network: its tensors by name, and the attributes that the classes keep.

    options: z_dim, c_dim, w_dim, img_resolution, img_channels, mapping_kwargs, synthesis_kwargs (a discriminator:
    channel_base, channel_max, conv_clamp, epilogue_kwargs …) as they were passed to the constructor.
    """

    def __init__(self, tensors: dict[str, Tensor], options: dict[str, Any], classes: list, flat: bool = False):
        self.tensors, self.options, self.classes, self.flat = tensors, options, classes, flat
        self.clamp = options.get("conv_clamp", options.get("synthesis_kwargs", {}).get("conv_clamp"))
        self.architecture = options.get("synthesis_kwargs", {}).get("architecture")

    def write(self, path: str = "") -> Called:
        prefix = f"{path}." if path else ""
        inside = [name.removeprefix(prefix) for name in self.tensors if name.startswith(prefix)]
        children = {name.split(".")[0]: None for name in inside if "." in name}
        if path == "b4" and self.classes is DISCRIMINATOR_CLASSES:
            children = {"mbstd": None, **children}
        own = {name: self.tensors[prefix + name] for name in inside if "." not in name}
        (*_, class_name) = (name for pattern, name in self.classes if re.fullmatch(pattern, path))
        nested = {name: self.write(prefix + name) for name in children}
        attributes = {"_init_args": (), "_init_kwargs": easy_dict({}), **self.attributes(class_name, path, own)}
        return persistent(class_name, module_state(own, nested, attributes))

    def attributes(self, class_name: str, path: str, own: dict[str, Tensor]) -> dict[str, Any]:
        """What the class of this name keeps beside its tensors."""
        made = getattr(self, class_name, None)
        return made(path, own) if made else {}

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.tensors[name].shape)

    def Generator(self, path: str, own: dict[str, Tensor]) -> dict[str, Any]:
        keys = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels")
        passed = {name: easy_dict(v) if isinstance(v, dict) else v for name, v in self.options.items()}
        if self.flat:
            passed |= self.options["synthesis_kwargs"]
            del passed["synthesis_kwargs"]
        return {k: self.options[k] for k in keys} | {"num_ws": self.num_ws(), "_init_kwargs": easy_dict(passed)}

    def Discriminator(self, path: str, own: dict[str, Tensor]) -> dict[str, Any]:
        keys = ("c_dim", "img_resolution", "img_channels")
        passed = {name: easy_dict(v) if isinstance(v, dict) else v for name, v in self.options.items()}
        log2 = self.options["img_resolution"].bit_length() - 1
        return {k: self.options[k] for k in keys} | {
            "img_resolution_log2": log2,
            "block_resolutions": [2**i for i in range(log2, 2, -1)],
            "_init_kwargs": easy_dict(passed),
        }

    def num_ws(self) -> int:
        return 2 * (self.options["img_resolution"].bit_length() - 1) - 2

    def MappingNetwork(self, path: str, own: dict[str, Tensor]) -> dict[str, Any]:
        discriminator = self.classes is DISCRIMINATOR_CLASSES
        layers = [name for name in self.tensors if re.fullmatch(r"mapping\.fc\d+\.weight", name)]
        return {
            "z_dim": 0 if discriminator else self.options["z_dim"],
            "c_dim": self.options["c_dim"],
            "w_dim": self.shape("mapping.fc0.bias")[0],
            "num_ws": None if discriminator else self.num_ws(),
            "num_layers": len(layers),
            "w_avg_beta": None if discriminator else 0.995,
        }

    def FullyConnectedLayer(self, path: str, own: dict[str, Tensor]) -> dict[str, Any]:
        linear = path.endswith(("affine", "embed", "out"))
        rate = 0.01 if re.fullmatch(r"mapping\.fc\d+", path) else 1
        gain = np.float64(rate / np.sqrt(own["weight"].shape[1]))
        return {"activation": "linear" if linear else "lrelu", "weight_gain": gain, "bias_gain": rate}

    def SynthesisNetwork(self, path: str, own: dict[str, Tensor]) -> dict[str, Any]:
        log2 = self.options["img_resolution"].bit_length() - 1
        return {
            "w_dim": self.options["w_dim"],
            "img_resolution": self.options["img_resolution"],
            "img_resolution_log2": log2,
            "img_channels": self.options["img_channels"],
            "block_resolutions": [2**i for i in range(2, log2 + 1)],
            "num_ws": self.num_ws(),
        }

    def SynthesisBlock(self, path: str, own: dict[str, Tensor]) -> dict[str, Any]:
        r = int(path.removeprefix("synthesis.b"))
        return {
            "in_channels": 0 if r == 4 else self.shape(f"{path}.conv0.weight")[1],
            "w_dim": self.options["w_dim"],
            "resolution": r,
            "img_channels": self.options["img_channels"],
            "is_last": r == self.options["img_resolution"],
            "architecture": self.architecture or "skip",
            "use_fp16": r >= 2 * self.options["img_resolution"] >> self.options["synthesis_kwargs"]["num_fp16_res"],
            "channels_last": False,
            "num_conv": 1 if r == 4 else 2,
            "num_torgb": 1,
        }

    def SynthesisLayer(self, path: str, own: dict[str, Tensor]) -> dict[str, Any]:
        if "noise_const" not in own:  # StyleGAN3's
            return {"w_dim": self.options["w_dim"], "is_torgb": False, "use_fp16": False, "conv_clamp": 256}
        return {
            "resolution": own["noise_const"].shape[0],
            "up": 2 if path.endswith("conv0") else 1,
            "use_noise": True,
            "activation": "lrelu",
            "conv_clamp": self.clamp,
            "padding": 1,
            "act_gain": np.float64(np.sqrt(2)),
        }

    def ToRGBLayer(self, path: str, own: dict[str, Tensor]) -> dict[str, Any]:
        return {"conv_clamp": self.clamp, "weight_gain": np.float64(1 / np.sqrt(own["weight"].shape[1]))}

    def Conv2dLayer(self, path: str, own: dict[str, Tensor]) -> dict[str, Any]:
        _, in_channels, kernel, _ = own["weight"].shape
        skip, down = path.endswith("skip"), path.endswith(("skip", "conv1"))
        return ({"bias": None} if skip else {}) | {
            "activation": "linear" if skip else "lrelu",
            "up": 1,
            "down": 2 if down else 1,
            "conv_clamp": None if skip else self.clamp,
            "padding": kernel // 2,
            "weight_gain": np.float64(1 / np.sqrt(in_channels * kernel**2)),
            "act_gain": np.float64(1 if skip else np.sqrt(2)),
        }

    def DiscriminatorBlock(self, path: str, own: dict[str, Tensor]) -> dict[str, Any]:
        r, last = int(path.removeprefix("b")), self.options["img_resolution"]
        return {
            "in_channels": 0 if r == last else self.shape(f"{path}.conv0.weight")[1],
            "resolution": r,
            "img_channels": self.options["img_channels"],
            "first_layer_idx": 3 * (last // r).bit_length() - 3,
            "architecture": self.options.get("architecture", "resnet"),
            "use_fp16": False,
            "channels_last": False,
            "num_layers": 4 if r == last else 3,
        }

    def DiscriminatorEpilogue(self, path: str, own: dict[str, Tensor]) -> dict[str, Any]:
        return {
            "in_channels": self.shape("b4.fc.bias")[0],
            "cmap_dim": self.shape("mapping.fc0.bias")[0] if self.options["c_dim"] else 0,
            "resolution": 4,
            "img_channels": self.options["img_channels"],
            "architecture": self.options.get("architecture", "resnet"),
        }

    def MinibatchStdLayer(self, path: str, own: dict[str, Tensor]) -> dict[str, Any]:
        return {"group_size": self.options["epilogue_kwargs"]["mbstd_group_size"], "num_channels": 1}


def generator(tensors: dict[str, Tensor], options: dict[str, Any], flat: bool = False) -> Called:
    """flat: the stylegan3 repository's way of passing the options of the synthesis network."""
    return Writer(tensors, options, CLASSES, flat).write()


def discriminator(tensors: dict[str, Tensor], options: dict[str, Any]) -> Called:
    return Writer(tensors, options, DISCRIMINATOR_CLASSES).write()


def snapshot(G_ema: Any, G: Any = None, D: Any = None, protocol: int = 4, old_numpy: bool = False) -> bytes:
    """The bytes of a network snapshot."""
    pipe = persistent("AugmentPipe", module_state({"p": torch.tensor(0.25)}, {}, {"xflip": 1.0, "_init_args": ()}))
    content = {
        "training_set_kwargs": easy_dict({"class_name": "training.dataset.ImageFolderDataset", "path": "faces.zip"}),
        "G": G,
        "D": D,
        "G_ema": G_ema,
        "augment_pipe": pipe,
    }
    return dumps(content, protocol, old_numpy)


def stylegan3_tensors(w_dim: int = 8) -> dict[str, Tensor]:
    """The names of a StyleGAN3 generator of two layers."""
    found = {"mapping.w_avg": torch.zeros(w_dim)}
    found |= {"mapping.fc0.weight": torch.zeros(w_dim, w_dim), "mapping.fc0.bias": torch.zeros(w_dim)}
    shapes = {"weight": (8, 8), "freqs": (8, 2), "phases": (8,), "transform": (3, 3)}
    shapes |= {"affine.weight": (4, w_dim), "affine.bias": (4,)}
    found |= {f"synthesis.input.{name}": torch.zeros(shape) for name, shape in shapes.items()}
    for layer in ("L0_36_8", "L1_36_3"):
        shapes = {"weight": (8, 8, 3, 3), "bias": (8,), "magnitude_ema": (), "up_filter": (12,), "down_filter": (12,)}
        shapes |= {"affine.weight": (8, w_dim), "affine.bias": (8,)}
        found |= {f"synthesis.{layer}.{name}": torch.zeros(shape) for name, shape in shapes.items()}
    return found
