"""Search for images in all candidates together, so that an image's searches can stop together.

Images are taken in windows of several batches. At each checkpoint those that stop leave, and the rest of the window is
divided into batches anew, so that batches stay full. A window's batches follow from its images alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from attribution.projector import Projection, results
from attribution.search import Batch, Searcher, SearchState, begin

BATCHES = 4  # in a window: what a killed run may have to do again


@dataclass(frozen=True)
class Watch:
    """Where searches are looked at on the way. checkpoints: numbers of steps, ascending, below a search's own.

    stops: whether an image's searches end at the checkpoint of this place, from its distances there by candidate; None:
    nothing ends early.
    """

    checkpoints: tuple[int, ...] = ()
    stops: Callable[[int, Mapping[str, float]], bool] | None = None


@dataclass(frozen=True)
class Wanted:
    """An image in a window: its target for each candidate, and its seed."""

    targets: Mapping[str, Tensor]
    seed: int


def search_window(
    images: Sequence[Wanted],
    searchers: Mapping[str, Searcher],
    watch: Watch,
    batch_size: int,
    on_step: Callable[[int], None],
) -> list[dict[str, Projection]]:
    """The projections of each image by candidate. searchers: by candidate; all have the same number of steps.

    on_step is called with the number of images after each step of their searches, and with the image-steps that need
    not be taken where some stop.
    """
    assert watch.stops is not None  # without a rule each candidate's searches go their own way
    steps = next(iter(searchers.values())).config.steps
    found: list[dict[str, Projection]] = [{} for _ in images]
    states: dict[str, dict[int, SearchState]] = {name: {} for name in searchers}
    running = list(range(len(images)))
    for place, until in enumerate([*watch.checkpoints, steps]):
        for members in (running[i : i + batch_size] for i in range(0, len(running), batch_size)):
            features: dict[int, list[Tensor]] = {}  # of the targets, by resolution: candidates share them
            for name, searcher in searchers.items():
                known = features.get(searcher.G.resolution)
                batch = _batch(name, searcher, members, images, states[name], known)
                features[searcher.G.resolution] = batch.features
                batch.advance(until, watch.checkpoints, partial(count_images, on_step, len(members)))
                for i, projection in zip(members, results(batch), strict=True):
                    found[i][name] = projection
                if until < steps:
                    states[name].update(zip(members, batch.present_states(), strict=True))
        if until == steps:
            return found
        here = {i: {name: found[i][name].lpips for name in searchers} for i in running}
        stopped = {i for i in running if watch.stops(place, here[i])}
        on_step(len(stopped) * len(searchers) * (steps - until))
        running = [i for i in running if i not in stopped]
        for of_candidate in states.values():
            for i in stopped:
                del of_candidate[i]
        if not running:
            return found
    raise AssertionError("the last segment returns")


def count_images(on_step: Callable[[int], None], images: int, _: int) -> None:
    """Turn a batch's report of a step into one of so many images' steps."""
    on_step(images)


def _batch(
    name: str,
    searcher: Searcher,
    members: Sequence[int],
    images: Sequence[Wanted],
    states: Mapping[int, SearchState],
    features: list[Tensor] | None,
) -> Batch:
    """A batch of these images, at the beginning or where they are."""
    if members[0] in states:
        return Batch(searcher, [states[i] for i in members], features)
    targets = torch.stack([images[i].targets[name] for i in members])
    return begin(searcher, targets, [images[i].seed for i in members], features)
