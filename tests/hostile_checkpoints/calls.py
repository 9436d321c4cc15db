"""Pickles that call: every opcode that can, and what they have been made to call in the wild."""

import zlib
from collections.abc import Callable
from pathlib import Path

from tests.hostile_checkpoints.archives import torch_legacy, torch_zip
from tests.hostile_checkpoints.case import Case
from tests.hostile_checkpoints.layouts import ada, rosinality
from tests.hostile_checkpoints.opcodes import STOP, Code, call, called, joined, named, persistent, pickled, push


def command(canary: Path) -> str:
    return f"touch '{canary}'"


def source(canary: Path) -> str:
    return f"open({str(canary)!r}, 'w').close()"


def system(canary: Path) -> Code:
    """os.system by REDUCE."""
    return call("os.system", command(canary))


# Each takes the place of REDUCE: opcodes that call os.system, import it, or ask something outside for an object.
OPCODES: dict[str, Callable[[Path], bytes]] = {
    "REDUCE": system,
    "REDUCE under its platform's name": lambda p: call("posix.system", command(p)),
    "REDUCE of STACK_GLOBAL": lambda p: joined(["os", "system"]) + b"\x93" + push((command(p),)) + b"R",
    "INST": lambda p: b"(" + push(command(p)) + b"ios\nsystem\n",
    "OBJ": lambda p: b"(" + named("os", "system") + push(command(p)) + b"o",
    "NEWOBJ": lambda p: named("subprocess", "Popen") + push((["touch", str(p)],)) + b"\x81",
    "NEWOBJ_EX": lambda p: named("subprocess", "Popen") + push(()) + push({"args": ["touch", str(p)]}) + b"\x92",
    "BUILD": lambda p: b"(itypes\nSimpleNamespace\n" + push({"__setstate__": named("os", "system")}) + b"b"
             + push(command(p)) + b"b",
    "BUILD with slots": lambda p: b"(ithreading\nThread\n" + push((None, {"run": named("os", "abort")})) + b"b",
    "BUILD of a global": lambda p: named("os", "system") + push({"__code__": source(p)}) + b"b",
    "APPENDS": lambda p: call("functools.partial", named("os", "system")) + b"(" + push(command(p)) + b"e",
    "SETITEMS": lambda p: call("collections.defaultdict", named("os", "system")) + b"("
                + joined([command(p), system(p)]) + b"u",
    "GLOBAL of a module that is not loaded": lambda p: named("tabnanny", "check"),
    "STACK_GLOBAL of a nested name": lambda p: joined(["os", "path.os.system"]) + b"\x93",
    "GLOBAL with a dotted path of modules": lambda p: named("tabnanny.os", "system"),
    "EXT1": lambda p: b"\x82\x01",
    "EXT2": lambda p: b"\x83\x01\x00",
    "EXT4": lambda p: b"\x84\x01\x00\x00\x00",
    "EXT4 of a negative code": lambda p: b"\x84\xff\xff\xff\xff",
    "PERSID": lambda p: b"P" + command(p).encode() + b"\n",
    "BINPERSID": lambda p: persistent(system(p)),
    "NEXT_BUFFER and READONLY_BUFFER": lambda p: b"\x97\x98",
}  # fmt: skip

# What they call, each once by REDUCE: the calls that scanners have overlooked among them.
CALLEES: dict[str, Callable[[Path], Code]] = {
    "subprocess.Popen": lambda p: call("subprocess.Popen", ["touch", str(p)]),
    "subprocess.check_output": lambda p: call("subprocess.check_output", ["touch", str(p)]),
    "eval": lambda p: call("builtins.eval", source(p)),
    "eval of Python 2": lambda p: call("__builtin__.eval", source(p)),
    "exec": lambda p: call("builtins.exec", source(p)),
    "compile": lambda p: call("builtins.compile", source(p), "x", "exec"),
    "open": lambda p: call("builtins.open", str(p), "w"),
    "__import__": lambda p: call("builtins.__import__", "tabnanny"),
    "getattr": lambda p: called(call("builtins.getattr", call("builtins.__import__", "os"), "system"), command(p)),
    "importlib": lambda p: called(
        call("builtins.getattr", call("importlib.import_module", "posix"), "system"), command(p)
    ),
    "runpy": lambda p: call("runpy._run_code", source(p), {}),
    "ctypes": lambda p: call("ctypes.CDLL", None),
    "webbrowser": lambda p: call("webbrowser.get", "none-of-this-name"),
    "socket": lambda p: call("socket.create_connection", ("127.0.0.1", 9), 0.1),
    "urllib": lambda p: call("urllib.request.urlopen", "http://127.0.0.1:9/"),
    "operator.methodcaller": lambda p: called(
        call("operator.methodcaller", "touch"), call("pathlib.PosixPath", str(p))
    ),
    "functools.partial": lambda p: called(call("functools.partial", named("os", "system"), command(p))),
    "timeit": lambda p: call("timeit.timeit", source(p), "pass", named("time", "perf_counter"), 1),
    "cProfile": lambda p: call("cProfile.run", source(p)),
    "pdb": lambda p: call("pdb.run", source(p)),
    "code": lambda p: called(call("code.InteractiveInterpreter"), source(p)),
    "types.FunctionType": lambda p: call("types.FunctionType", call("builtins.compile", source(p), "x", "exec"), {}),
    "marshal.loads": lambda p: call("marshal.loads", b"\xe3" + bytes(40)),
    "pickle.loads": lambda p: call("pickle.loads", pickled(system(p))),
    "_pickle.loads": lambda p: call("_pickle.loads", pickled(system(p))),
    "joblib.load": lambda p: call("joblib.load", str(p)),
    "shelve.open": lambda p: call("shelve.open", str(p)),
    "shutil.copyfile": lambda p: call("shutil.copyfile", "/etc/hostname", str(p)),
    "logging.FileHandler": lambda p: call("logging.FileHandler", str(p)),
    "numpy.load": lambda p: call("numpy.load", str(p), None, True),
    "numpy.save": lambda p: call("numpy.save", str(p), [1]),
    "numpy.testing": lambda p: call("numpy.testing._private.utils.runstring", source(p), {}),
    "torch.load": lambda p: call(
        "torch.load", call("io.BytesIO", torch_zip(pickled(system(p)), {})), None, None, False
    ),
    "torch.save": lambda p: call("torch.save", [1], str(p)),
    "torch.hub": lambda p: call("torch.hub.load_state_dict_from_url", "http://127.0.0.1:9/x.pth", str(p)),
    "torch.jit.load": lambda p: call("torch.jit.load", str(p)),
    "torch.ops.load_library": lambda p: call("torch._ops._Ops.load_library", str(p)),
    "torch's configuration": lambda p: call("torch.utils._config_module.ConfigModule.load_config", pickled(system(p))),
    "collections.OrderedDict of a call": lambda p: call("collections.OrderedDict", [("G_ema", system(p))]),
    "_codecs.encode by a codec to be imported": lambda p: call("_codecs.encode", "x", "rot13"),
    "_codecs.decode of a deflate bomb": lambda p: call("_codecs.decode", zlib.compress(bytes(2**24)), "zlib"),
    "copyreg._reconstructor": lambda p: call(
        "copyreg._reconstructor", named("os", "_wrap_close"), named("os", "system"), command(p)
    ),
    "a name in another script": lambda p: call("ｏｓ.system", command(p)),
}  # fmt: skip


def state_of(array_call: Code, state: object) -> Code:
    return Code(array_call + push(state) + b"b")


def object_array(item: object) -> Code:
    """A NumPy array of Python objects."""
    array = call("numpy.core.multiarray._reconstruct", named("numpy", "ndarray"), (0,), b"b")
    kind = state_of(call("numpy.dtype", "O8", False, True), (3, "|", None, None, None, -1, -1, 63))
    return state_of(array, (1, (1,), kind, False, item))


def nested_load(canary: Path, depth: int) -> Code:
    """torch.storage._load_from_bytes of a file that holds the same call again, os.system innermost."""
    code = system(canary)
    for level in range(depth):
        inner = torch_zip(pickled(code), {}) if level % 2 else torch_legacy(pickled(code), {})
        code = call("torch.storage._load_from_bytes", inner)
    return code


def self_similar(canary: Path) -> Code:
    """A call of _load_from_bytes on a call of itself, and of the bytes that hold it."""
    blob = pickled(call("torch.storage._load_from_bytes", pickled(system(canary))))
    return called(called(named("torch.storage", "_load_from_bytes"), blob), blob)


def tensor_on(code: Code) -> Code:
    return call("torch._utils._rebuild_tensor_v2", code, 0, (4, 4), (4, 1), False, call("collections.OrderedDict"))


EVIL_SOURCE = "class Generator: pass\n"

CASES: dict[str, Case] = {
    **{
        f"opcode {name}": Case(lambda p, build=build: b"\x80\x04" + build(p) + STOP)  # type: ignore[misc]
        for name, build in OPCODES.items()
    },
    **{f"call of {name}": Case(lambda p, build=build: pickled(build(p))) for name, build in CALLEES.items()},  # type: ignore[misc]
    "os.system in a torch zip": Case(lambda p: torch_zip(pickled({"g_ema": system(p)}), {})),
    "os.system in an older torch file": Case(lambda p: torch_legacy(pickled({"g_ema": system(p)}), {})),
    "os.system as an older file's magic number": Case(lambda p: pickled(system(p)) + torch_legacy(pickled(1), {})),
    "os.system as a tensor": Case(lambda p: rosinality({"style.1.weight": system(p)})),
    "os.system as a storage": Case(lambda p: rosinality({"style.1.weight": tensor_on(system(p))})),
    "os.system as a parameter's tensor": Case(
        lambda p: ada({"mapping.w_avg": call("torch._utils._rebuild_parameter", system(p))})
    ),
    "os.system beside a valid generator": Case(lambda p: rosinality(top={"args": system(p)}), refused=False),
    "os.system in a module's meta": Case(lambda p: ada(metas={"synthesis.b8": {"extra": system(p)}}), refused=False),
    "os.system as a module's class name": Case(lambda p: ada(metas={"mapping": {"class_name": system(p)}})),
    "os.system as a module": Case(lambda p: ada({"synthesis.b8.conv0": system(p)})),
    "os.system as a setting": Case(
        lambda p: ada(extra={"": {"z_dim": system(p), "_init_kwargs": system(p)}}), refused=False
    ),
    "module_src that writes": Case(lambda p: ada(source=EVIL_SOURCE + source(p)), refused=False),
    "an import hook in a module's meta": Case(
        lambda p: ada(metas={"": {"type": "class", "import_hooks": [named("os", "system")]}}), refused=False
    ),
    "an object array": Case(lambda p: pickled((None, None, object_array([system(p)])))),
    "an object array made of addresses": Case(lambda p: pickled((None, None, object_array(b"\x41" * 8)))),
    "an object array as a tensor": Case(lambda p: rosinality({"style.1.weight": object_array([system(p)])})),
    "_load_from_bytes five deep": Case(lambda p: rosinality({"style.1.weight": tensor_on(nested_load(p, 5))})),
    "_load_from_bytes forty deep": Case(lambda p: pickled({"G_ema": nested_load(p, 40)})),
    "_load_from_bytes of itself": Case(lambda p: ada({"mapping.w_avg": tensor_on(self_similar(p))})),
}  # fmt: skip
