"""What a report says of the program and machine that made it."""

import platform
from importlib.metadata import PackageNotFoundError, version

import PIL.features
import torch

from cuda_ops import kernel_in_use

LIBRARIES = ("torch", "lpips", "numpy", "scipy", "scikit-learn", "pillow", "safetensors")


def tool_version() -> str:
    """The installed version, or "unknown" in a checkout that was not installed."""
    try:
        return version("latentprint")
    except PackageNotFoundError:
        return "unknown"


def environment(device: str = "cpu") -> dict[str, str]:
    """Versions of what the numbers depend on: libraries, JPEG decoder, machine, threads, operators on the device."""
    versions = {name: version(name) for name in LIBRARIES}
    return versions | {
        "libjpeg": str(PIL.features.version("jpg")),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "threads": str(torch.get_num_threads()),
        "operators": kernel_in_use(device),
    }


def precision_support() -> dict[str, str]:
    """Which device and precisions are fast here, and why not."""
    cuda = torch.cuda.is_available()
    facts = {"device": f"cuda: {torch.cuda.get_device_name()}" if cuda else "cpu: PyTorch sees no CUDA device"}
    facts["operators"] = kernel_in_use("cpu") + "; " + kernel_in_use("cuda")
    capability = torch.backends.cpu.get_cpu_capability()
    native = torch.cuda.is_bf16_supported() if cuda else torch.ops.mkldnn._is_mkldnn_bf16_supported()
    facts["cpu instructions"] = capability
    facts["bf16"] = "on" if native else "off: the processor lacks bf16 instructions, fp32 is as fast"
    return facts
