"""stylegan2 TensorFlow pickles: three Networks restored from a dict of variables, settings and source text."""

from typing import Any

import numpy as np

from tests.checkpoint_writers.pickles import Called, dumps, easy_dict, instance

SOURCE = "raise RuntimeError('the source text stored in a checkpoint was executed')\n"
FUNCTIONS = {"mapping": "G_mapping", "synthesis": "G_synthesis_stylegan2"}


def network(
    variables: dict[str, np.ndarray],
    static_kwargs: dict[str, Any],
    function: str = "G_main",
    module: str = "dnnlib.tflib.network",
    functions: dict[str, str] = FUNCTIONS,
) -> Called:
    """variables: with the component in front of those that belong to one."""
    components: dict[str, dict[str, np.ndarray]] = {}
    own = {}
    for name, array in variables.items():
        component, _, rest = name.partition("/")
        if component in functions:
            components.setdefault(component, {})[rest] = array
        else:
            own[name] = array
    state = {
        "version": 4,
        "name": function.split("_")[0],
        "static_kwargs": easy_dict(static_kwargs),
        "components": easy_dict(
            {name: network(v, static_kwargs, functions[name], module, functions) for name, v in components.items()}
        ),
        "build_module_src": SOURCE,
        "build_func_name": function,
        "variables": [(name, array[()]) for name, array in own.items()],  # a session gives scalars as NumPy numbers
    }
    return instance(module, "Network", state)


def snapshot(Gs: Called, D: Called, G: Called, protocol: int = 4, python2: bool = False) -> bytes:
    return dumps((G, D, Gs), protocol, old_numpy=True, python2=python2)
