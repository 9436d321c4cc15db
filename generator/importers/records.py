"""Plain structures out of pickled ones: dictionaries, and networks with the tensors below them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from generator.importers.pickled import Call, Global
from generator.importers.stored_tensors import Storages, StoredTensor, stored_tensor

DICTIONARIES = {
    Global("collections", "OrderedDict"),
    Global("collections", "defaultdict"),
    Global("dnnlib.util", "EasyDict"),
    Global("dnnlib", "EasyDict"),
}
PERSISTENT_OBJECT = Global("torch_utils.persistence", "_reconstruct_persistent_obj")
MOST_TENSORS = 20_000
PARALLEL = "module."  # what torch.nn.DataParallel puts before every name
DEEPEST_MODULE = 12


def as_dict(value: Any) -> dict[str, Any] | None:
    """The dictionary that a pickled value stands for, without keys that are not text; None where it is none."""
    if type(value) is dict:
        pairs = list(value.items())
    elif isinstance(value, Call) and type(value.callee) is Global and value.callee in DICTIONARIES:
        pairs = list(value.entries)
        if value.args and type(value.args[0]) is list:  # Python 2: OrderedDict([[key, value], ...])
            pairs += [tuple(pair) for pair in value.args[0] if type(pair) in (list, tuple) and len(pair) == 2]
    else:
        return None
    return {key: item for key, item in pairs if type(key) is str}


def entries_of(value: Any) -> dict[str, Any]:
    """The entries of a state dict, without what DataParallel puts before every name; empty for another value."""
    entries = as_dict(value) or {}
    if entries and all(name.startswith(PARALLEL) for name in entries):
        return {name.removeprefix(PARALLEL): item for name, item in entries.items()}
    return entries


def state_dict(value: Any, storages: Storages) -> dict[str, StoredTensor] | None:
    """The tensors of a dictionary by name, or None where the value is no dictionary or holds no tensor."""
    entries = entries_of(value)
    if len(entries) > MOST_TENSORS:
        raise ValueError(f"found {len(entries):,} entries in a state dict, expected at most {MOST_TENSORS:,}")
    tensors = {name: stored_tensor(item, storages) for name, item in entries.items()}
    found = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    return found or None


@dataclass(frozen=True)
class Module:
    """A network whose class and state stylegan2-ada-pytorch pickled: attributes, and the modules below by name."""

    class_name: str
    attributes: dict[str, Any]
    children: dict[str, "Module"]
    tensors: dict[str, StoredTensor]

    def walk(self, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """Every module with its dotted name, this one first."""
        yield prefix, self
        for name, child in self.children.items():
            yield from child.walk(f"{prefix}.{name}" if prefix else name)

    def all_tensors(self) -> dict[str, StoredTensor]:
        """The tensors of this module and all below, by dotted name."""
        return {
            f"{prefix}.{name}" if prefix else name: tensor
            for prefix, module in self.walk()
            for name, tensor in module.tensors.items()
        }


def is_module(value: Any) -> bool:
    """Whether a pickled value is a network of stylegan2-ada-pytorch's kind."""
    return isinstance(value, Call) and value.callee == PERSISTENT_OBJECT


def as_module(value: Any, storages: Storages) -> Module | None:
    """The network that a call of `_reconstruct_persistent_obj` stands for; its source text is not looked at.

    Raises ValueError for one that is malformed.
    """
    return _module(value, storages, 0, set()) if is_module(value) else None


def _module(value: Call, storages: Storages, depth: int, seen: set[int]) -> Module:
    if depth > DEEPEST_MODULE or id(value) in seen:
        raise ValueError(f"found networks more than {DEEPEST_MODULE} deep, or one in several places, expected a tree")
    seen.add(id(value))
    meta = as_dict(value.args[0]) if len(value.args) == 1 else None
    state = as_dict(meta.get("state")) if meta else None
    if meta is None or state is None or type(meta.get("class_name")) is not str:
        raise ValueError("found a pickled network without class name and state, expected both")
    children = {}
    for name, item in (as_dict(state.get("_modules")) or {}).items():
        child = _module(item, storages, depth + 1, seen) if is_module(item) else _plain_module(item, storages)
        if child is not None:
            children[name] = child
    tensors = _own_tensors(state, storages)
    return Module(meta["class_name"], state, children, tensors)


def _plain_module(value: Any, storages: Storages) -> Module | None:
    """A torch.nn module below a network: class and state as pickle keeps them."""
    if not isinstance(value, Call) or not value.state:
        return None
    state = as_dict(value.state[0])
    named = value.args[0] if value.args and isinstance(value.args[0], Global) else value.callee
    if state is None or not isinstance(named, Global):
        return None
    return Module(named.name, state, {}, _own_tensors(state, storages))


def _own_tensors(state: dict[str, Any], storages: Storages) -> dict[str, StoredTensor]:
    found: dict[str, StoredTensor] = {}
    for kind in ("_parameters", "_buffers"):
        for name, item in (as_dict(state.get(kind)) or {}).items():
            tensor = stored_tensor(item, storages)
            if tensor is not None:
                found[name] = tensor
    return found
