"""What the things that pickles name mean, and what files that are no checkpoint of ours to import are."""

from generator.importers.containers import Container
from generator.importers.pickled import Global
from generator.importers.records import as_dict

TENSORS = "part of a tensor"
PLAIN = "a plain container"
KNOWN = {
    ("collections", "OrderedDict"): PLAIN,
    ("collections", "defaultdict"): PLAIN,
    ("builtins", "set"): PLAIN,
    ("builtins", "frozenset"): PLAIN,
    ("builtins", "bytearray"): PLAIN,
    ("__builtin__", "set"): PLAIN,
    ("dnnlib.util", "EasyDict"): PLAIN,
    ("dnnlib", "EasyDict"): PLAIN,
    ("argparse", "Namespace"): "command-line settings of a training; left out",
    ("torch._utils", "_rebuild_tensor"): TENSORS,
    ("torch._utils", "_rebuild_tensor_v2"): TENSORS,
    ("torch._utils", "_rebuild_tensor_v3"): TENSORS,
    ("torch._utils", "_rebuild_parameter"): TENSORS,
    ("torch._utils", "_rebuild_parameter_with_state"): TENSORS,
    ("torch.storage", "_load_from_bytes"): "a tensor's numbers in a nested file; an ordinary loader would unpickle it",
    ("torch.storage", "UntypedStorage"): TENSORS,
    ("torch", "Size"): TENSORS,
    ("torch", "device"): TENSORS,
    ("numpy", "dtype"): TENSORS,
    ("numpy", "ndarray"): TENSORS,
    ("_codecs", "encode"): "bytes, as old pickle protocols write them",
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): (
        "a network of stylegan2-ada-pytorch; an ordinary loader would execute the source text stored in the file"
    ),
    ("dnnlib.tflib.network", "Network"): (
        "a network of stylegan2; an ordinary loader would execute the source text stored in the file"
    ),
}
RUNS_PROGRAMS = {"os", "posix", "nt", "subprocess", "pty", "commands", "popen2", "asyncio.subprocess"}
RUNS_CODE = {"builtins", "__builtin__", "runpy", "code", "codeop", "importlib", "imp", "pydoc", "timeit", "ctypes"}
OPENS_CONNECTIONS = {"socket", "urllib.request", "requests", "http.client", "ftplib", "smtplib", "webbrowser"}
CHANGES_FILES = {"shutil", "pathlib", "tempfile", "io", "zipfile", "tarfile"}
UNPICKLES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "torch.serialization"}


def meaning_of(named: Global) -> tuple[bool, str]:
    """(whether checkpoints of the known formats name it, what it is or what an ordinary loader would do with it)."""
    if (named.module, named.name) in KNOWN:
        return True, KNOWN[named.module, named.name]
    if named.module == "torch" and (named.name.endswith("Storage") or named.name in TORCH_TYPES):
        return True, TENSORS
    if named.module.startswith(("numpy.core.", "numpy._core.")) and named.name in NUMPY_NAMES:
        return True, TENSORS
    if named.module.startswith("torch.nn.modules.") or named.module.startswith("torch.optim."):
        return True, "a module or an optimizer of torch"
    first = named.module.partition(".")[0]
    for modules, meaning in (
        (RUNS_PROGRAMS, "SUSPICIOUS: an ordinary loader could run programs with it"),
        (RUNS_CODE, "SUSPICIOUS: an ordinary loader could run code with it"),
        (OPENS_CONNECTIONS, "SUSPICIOUS: an ordinary loader could open connections with it"),
        (CHANGES_FILES, "SUSPICIOUS: an ordinary loader could change files with it"),
        (UNPICKLES, "SUSPICIOUS: an ordinary loader would read another pickle with it"),
    ):
        if named.module in modules or first in modules:
            return False, meaning
    return False, "unknown: an ordinary loader would import and perhaps call it"


TORCH_TYPES = {"float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"}
NUMPY_NAMES = {"_reconstruct", "scalar", "_frombuffer"}


def unknown_network(container: Container) -> str:
    """The sentence for a file that is read well, but holds no network that can be imported."""
    entries = as_dict(container.value) or {}
    if "GAN" in entries and "version" in entries:
        return (
            "found a lucidrains stylegan2-pytorch checkpoint, expected one of NVIDIA's StyleGAN2 architecture: "
            "its own architecture (bilinear, without FIR filters, one noise image) would have to be built first"
        )
    found = f"a dictionary of {', '.join(map(ascii, list(entries)[:5]))}" if entries else "no known network"
    return (
        f"found {found[:200]}, expected a StyleGAN2 checkpoint: NVIDIA's pickles (TensorFlow, ada-pytorch, "
        "stylegan3 repository), rosinality, GenForce or MMGeneration"
    )
