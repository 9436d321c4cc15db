"""Search for images in all candidates together, so that an image's searches can stop together.

The checkpoints divide a search into segments. Before each of them images wait until they are enough for a batch; those
that stop at its end leave, and others take their places. So all batches are full until the images run out, and few
images are under way at a time, however many there are.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import torch
from torch import Tensor

from attribution.projector import Projection, results
from attribution.search import Batch, Searcher, SearchState, begin


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
    """An image to search for: its name, its target for each candidate, and its seed."""

    key: str
    targets: Mapping[str, Tensor]
    seed: int


@dataclass(frozen=True)
class _UnderWay:
    """An image that waits for a batch. states: where its searches are, by candidate; none before they begin."""

    wanted: Wanted
    states: Mapping[str, SearchState] = field(default_factory=dict)


def search_images(
    images: Iterable[Wanted],
    searchers: Mapping[str, Searcher],
    watch: Watch,
    batch_size: int,
    on_step: Callable[[int], None],
) -> Iterator[tuple[str, dict[str, Projection]]]:
    """Each image's key and projections by candidate, as soon as its searches end. Images are taken as there is room.

    searchers: by candidate; all have the same number of steps. on_step is called with the number of images after each
    step of their searches, and with the image-steps that need not be taken where some stop.
    """
    assert watch.stops is not None  # without a rule each candidate's searches go their own way
    steps = next(iter(searchers.values())).config.steps
    ends = [*watch.checkpoints, steps]
    source, waiting = iter(images), [list[_UnderWay]() for _ in ends]
    while (place := _next_segment(waiting, source, batch_size)) is not None:
        members, waiting[place] = waiting[place][:batch_size], waiting[place][batch_size:]
        until = ends[place]
        for member, projections, states in _advance(members, searchers, until, watch.checkpoints, on_step):
            here = {name: projection.lpips for name, projection in projections.items()}
            if until == steps or watch.stops(place, here):
                on_step(len(searchers) * (steps - until))
                yield member.wanted.key, projections
            else:
                waiting[place + 1].append(_UnderWay(member.wanted, states))


def _next_segment(waiting: Sequence[list[_UnderWay]], source: Iterator[Wanted], batch_size: int) -> int | None:
    """The last segment that a batch waits for; where none does, the first after filling it; None at the end.

    When the images run out, the first segments go first: what comes of them may fill a later batch.
    """
    full = [place for place, group in enumerate(waiting) if len(group) >= batch_size]
    if full:
        return full[-1]
    waiting[0].extend(map(_UnderWay, islice(source, batch_size - len(waiting[0]))))
    return next((place for place, group in enumerate(waiting) if group), None)


def _advance(
    members: Sequence[_UnderWay],
    searchers: Mapping[str, Searcher],
    until: int,
    checkpoints: Sequence[int],
    on_step: Callable[[int], None],
) -> Iterator[tuple[_UnderWay, dict[str, Projection], dict[str, SearchState]]]:
    """Each member with what all its searches have found after the steps up to `until`, and where they are."""
    features: dict[int, list[Tensor]] = {}  # of the targets, by resolution: candidates share them
    projections: list[dict[str, Projection]] = [{} for _ in members]
    states: list[dict[str, SearchState]] = [{} for _ in members]
    for name, searcher in searchers.items():
        batch = _batch(name, searcher, members, features.get(searcher.G.resolution))
        features[searcher.G.resolution] = batch.features
        batch.advance(until, checkpoints, partial(count_images, on_step, len(members)))
        for place, found in enumerate(zip(results(batch), batch.present_states(), strict=True)):
            projections[place][name], states[place][name] = found
    return zip(members, projections, states, strict=True)


def count_images(on_step: Callable[[int], None], images: int, _: int) -> None:
    """Turn a batch's report of a step into one of so many images' steps."""
    on_step(images)


def _batch(name: str, searcher: Searcher, members: Sequence[_UnderWay], features: list[Tensor] | None) -> Batch:
    """A batch of these images, at the beginning or where they are."""
    if members[0].states:
        return Batch(searcher, [member.states[name] for member in members], features)
    targets = torch.stack([member.wanted.targets[name] for member in members])
    return begin(searcher, targets, [member.wanted.seed for member in members], features)
