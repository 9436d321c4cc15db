"""The table of a checkpoint's tensors, of known formats and unknown ones."""

from collections.abc import Iterator
from typing import Any

from generator.importers.containers import Container
from generator.importers.pickled import Call
from generator.importers.records import MOST_TENSORS, as_dict, as_module, is_module
from generator.importers.stored_tensors import StoredTensor, stored_tensor

DEEPEST = 8


def tensor_table(container: Container) -> list[tuple[str, StoredTensor]]:
    """Every tensor that can be reached, with a name that says where it is. Raises ValueError for malformed ones."""
    table: list[tuple[str, StoredTensor]] = []
    for item in _tensors(container.value, "", container, 0):
        table.append(item)
        if len(table) > MOST_TENSORS:
            raise ValueError(f"found more than {MOST_TENSORS:,} tensors, expected a checkpoint of fewer")
    return table


def _tensors(value: Any, prefix: str, container: Container, depth: int) -> Iterator[tuple[str, StoredTensor]]:
    if depth > DEEPEST:
        return
    tensor = stored_tensor(value, container)
    if tensor is not None:
        yield prefix, tensor
        return
    if is_module(value):
        module = as_module(value, container)
        for name, own in module.all_tensors().items() if module else ():
            yield f"{prefix}.{name}", own
        return
    for name, item in _children(value):
        yield from _tensors(item, f"{prefix}.{name}" if prefix else name, container, depth + 1)


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    """The named values in a dictionary, a tuple, a list of pairs, or an instance's state."""
    entries = as_dict(value)
    if entries is not None:
        yield from entries.items()
    elif isinstance(value, Call):
        for state in value.state:
            yield from (as_dict(state) or {}).items()
    elif type(value) in (tuple, list):
        for i, item in enumerate(value[:MOST_TENSORS]):
            if type(item) in (tuple, list) and len(item) == 2 and type(item[0]) is str:
                yield item[0], item[1]
            else:
                yield str(i), item
