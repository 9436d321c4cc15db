"""Small valid files of each container, with a place for something else; their numbers are seeded."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from tests.hostile_checkpoints.archives import torch_legacy, torch_zip
from tests.hostile_checkpoints.opcodes import Code, call, named, ordered, persistent, pickled

W, CHANNELS, RESOLUTION = 4, 4, 16
KERNEL = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
Shapes = dict[str, tuple[int, ...]]


@cache
def numbers(name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith("filter"):
        return KERNEL.astype(np.float32)
    if name.endswith("kernel"):
        return (4 * KERNEL).astype(np.float32)
    return np.random.default_rng(len(name)).standard_normal(shape).astype(np.float32)


def strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))


def tensor(storage: Any, shape: Any, offset: Any = 0, steps: Any = None) -> Code:
    """A tensor on a storage."""
    steps = strides(shape) if steps is None else steps
    hooks = call("collections.OrderedDict")
    return call("torch._utils._rebuild_tensor_v2", storage, offset, shape, steps, False, hooks)


def storage_id(key: Any, count: Any, *view: Any, kind: str = "FloatStorage") -> Code:
    """A reference to a storage of the file. view: None in the older container, whose references have six parts."""
    return persistent(("storage", named("torch", kind), key, "cpu", count, *view))


def blob_storage(data: bytes) -> Code:
    """A storage in a file of its own within the pickle, as ada's snapshots have them."""
    reference = storage_id("0", len(data) // 4, None)
    return call("torch.storage._load_from_bytes", torch_legacy(pickled(reference), {"0": data}))


# ---------------------------------------------------------------- rosinality


@cache
def rosinality_shapes() -> Shapes:
    c, found = CHANNELS, Shapes()

    def styled(name: str, up: bool) -> None:
        found[f"{name}.conv.weight"] = (1, c, c, 3, 3)
        found[f"{name}.conv.modulation.weight"], found[f"{name}.conv.modulation.bias"] = (c, W), (c,)
        found[f"{name}.noise.weight"], found[f"{name}.activate.bias"] = (1,), (c,)
        if up:
            found[f"{name}.conv.blur.kernel"] = (4, 4)

    def rgb(name: str, up: bool) -> None:
        found[f"{name}.bias"], found[f"{name}.conv.weight"] = (1, 3, 1, 1), (1, 3, c, 1, 1)
        found[f"{name}.conv.modulation.weight"], found[f"{name}.conv.modulation.bias"] = (c, W), (c,)
        if up:
            found[f"{name}.upsample.kernel"] = (4, 4)

    for i in (1, 2):
        found[f"style.{i}.weight"], found[f"style.{i}.bias"] = (W, W), (W,)
    found["input.input"] = (1, c, 4, 4)
    styled("conv1", False)
    rgb("to_rgb1", False)
    for k in range(2):
        styled(f"convs.{2 * k}", True)
        styled(f"convs.{2 * k + 1}", False)
        rgb(f"to_rgbs.{k}", True)
    for i in range(5):
        r = 4 * 2 ** ((i + 1) // 2)
        found[f"noises.noise_{i}"] = (1, 1, r, r)
    return found


Wrap = Callable[[bytes, dict[str, bytes]], bytes]


def rosinality(
    changes: dict[str, Any] | None = None, top: dict[Any, Any] | None = None, wrap: Wrap = torch_zip
) -> bytes:
    """A valid file of rosinality's layout. changes: tensors to replace or add; top: entries beside g_ema."""
    entries, storages = {}, {}
    view = (None,) if wrap is torch_legacy else ()
    for key, (name, shape) in enumerate(rosinality_shapes().items()):
        data = numbers(name, shape).tobytes()
        storages[f"{key:03d}"] = data
        entries[name] = tensor(storage_id(f"{key:03d}", len(data) // 4, *view), shape)
    return wrap(pickled({"g_ema": ordered(entries | (changes or {}))} | (top or {})), storages)


# ---------------------------------------------------------------- stylegan2-ada-pytorch

CLASSES = {"mapping": "MappingNetwork", "synthesis": "SynthesisNetwork", "torgb": "ToRGBLayer"}


@cache
def ada_shapes() -> Shapes:
    c, found = CHANNELS, Shapes()
    for r in (4, 8, 16):
        block = f"synthesis.b{r}"
        if r == 4:
            found[f"{block}.const"] = (c, 4, 4)
        found[f"{block}.resample_filter"] = (4, 4)
        for layer in ("conv1",) if r == 4 else ("conv0", "conv1"):
            name = f"{block}.{layer}"
            found[f"{name}.weight"], found[f"{name}.bias"], found[f"{name}.noise_strength"] = (c, c, 3, 3), (c,), ()
            found[f"{name}.resample_filter"], found[f"{name}.noise_const"] = (4, 4), (r, r)
            found[f"{name}.affine.weight"], found[f"{name}.affine.bias"] = (c, W), (c,)
        found[f"{block}.torgb.weight"], found[f"{block}.torgb.bias"] = (3, c, 1, 1), (3,)
        found[f"{block}.torgb.affine.weight"], found[f"{block}.torgb.affine.bias"] = (c, W), (c,)
    found["mapping.w_avg"] = (W,)
    for i in (0, 1):
        found[f"mapping.fc{i}.weight"], found[f"mapping.fc{i}.bias"] = (W, W), (W,)
    return found


ByModule = dict[str, dict[str, Any]]
SETTINGS: dict[str, Any] = {"z_dim": W, "c_dim": 0, "w_dim": W, "img_resolution": RESOLUTION, "img_channels": 3}


def class_name(prefix: str) -> str:
    last = prefix.rpartition(".")[2]
    if last.startswith("conv"):
        return "SynthesisLayer"
    if last.startswith("b"):
        return "SynthesisBlock"
    return CLASSES.get(last, "FullyConnectedLayer") if prefix else "Generator"


def module_attributes(prefix: str) -> dict[str, Any]:
    """What a module's state holds beside tensors and modules."""
    if prefix == "":
        keywords = {
            "mapping_kwargs": {"num_layers": 2},
            "synthesis_kwargs": {"channel_base": CHANNELS * RESOLUTION, "channel_max": CHANNELS, "num_fp16_res": 0},
        }
        return SETTINGS | {"num_ws": 6, "_init_args": (), "_init_kwargs": SETTINGS | keywords}
    if prefix == "mapping":
        return {"z_dim": W, "c_dim": 0, "w_dim": W, "num_ws": 6, "num_layers": 2, "w_avg_beta": 0.995}
    if prefix == "synthesis":
        sizes = {"w_dim": W, "img_resolution": RESOLUTION, "img_channels": 3}
        return sizes | {"block_resolutions": [4, 8, 16], "num_ws": 6}
    if class_name(prefix) == "SynthesisBlock":
        return {"resolution": int(prefix.rpartition(".b")[2]), "architecture": "skip", "use_fp16": False}
    if class_name(prefix) in ("SynthesisLayer", "ToRGBLayer"):
        return {"conv_clamp": None, "activation": "lrelu", "use_noise": True, "up": 1}
    mapping = prefix.startswith("mapping.")
    return {"activation": "lrelu" if mapping else "linear", "bias_gain": 0.01 if mapping else 1.0}


def module(prefix: str, attributes: dict[str, Any], state: dict[str, Any], source: str, meta: dict[str, Any]) -> Code:
    """A pickled network: the call that stylegan2-ada-pytorch's loader would make, which executes `source`."""
    whole = {
        "type": "class",
        "version": 6,
        "module_src": source,
        "class_name": class_name(prefix),
        "state": {"training": False, **state, **attributes},
    }
    return call("torch_utils.persistence._reconstruct_persistent_obj", whole | meta)


@cache
def ada_tensor(name: str) -> Code:
    shape = ada_shapes()[name]
    return tensor(blob_storage(numbers(name, shape).tobytes()), shape)


def ada_network(changes: dict[str, Code], source: str, metas: ByModule, extra: ByModule, prefix: str = "") -> Code:
    """A module with all below it. changes: tensors or modules to replace; metas, extra: additions to meta and state."""
    start = f"{prefix}." if prefix else ""
    below = [name.removeprefix(start) for name in ada_shapes() if name.startswith(start)]
    tensors: dict[str, Code] = {}
    children: dict[str, Code] = {}
    for name in below:
        child, dot, _ = name.partition(".")
        full = start + child
        if full in changes:
            (children if dot else tensors)[child] = changes[full]
        elif dot:
            if child not in children:
                children[child] = ada_network(changes, source, metas, extra, full)
        else:
            tensors[child] = ada_tensor(full)
    buffers = {n: t for n, t in tensors.items() if n.endswith(("filter", "noise_const", "w_avg"))}
    parameters = {n: call("torch._utils._rebuild_parameter", t, True, call("collections.OrderedDict"))
                  for n, t in tensors.items() if n not in buffers}  # fmt: skip
    state = {"_parameters": ordered(parameters), "_buffers": ordered(buffers), "_modules": ordered(children)}
    attributes = module_attributes(prefix) | extra.get(prefix, {})
    return module(prefix, attributes, state, source, metas.get(prefix, {}))


def ada(
    changes: dict[str, Code] | None = None,
    source: str = "class Generator: pass",
    metas: ByModule | None = None,
    top: dict[Any, Any] | None = None,
    extra: ByModule | None = None,
) -> bytes:
    """A valid snapshot of stylegan2-ada-pytorch's layout, of the exponential moving average only."""
    network = ada_network(changes or {}, source, metas or {}, extra or {})
    value = {"training_set_kwargs": None, "G": None, "D": None, "G_ema": network, "augment_pipe": None}
    return pickled(value | (top or {}), 4)


VALID: dict[str, Callable[[], bytes]] = {
    "rosinality zip": rosinality,
    "rosinality legacy": lambda: rosinality(wrap=torch_legacy),
    "ada pickle": ada,
}
