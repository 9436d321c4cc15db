"""Several processes that train one model: who they are, what they add up, and which images each of them takes."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from generator.discriminator import group_size_in

JUDGING = timedelta(hours=6)  # how long the others wait at most while the first process judges or writes


@dataclass(frozen=True)
class Workers:
    """This process among those that train together. The first one writes the files."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, which get the same bits."""
        if self.count == 1:
            return
        together = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(together)
        for tensor, numbers in zip(tensors, together.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(numbers.view(tensor.shape))

    def require_same_step(self, step: int, device: torch.device) -> None:
        """Raise ValueError unless every process is at the same step: they have to see the same folder."""
        if self.count == 1:
            return
        ends = torch.tensor([step, -step], device=device)
        dist.all_reduce(ends, dist.ReduceOp.MAX)
        last, first = int(ends[0]), -int(ends[1])
        if first != last:
            raise ValueError(
                f"--out: found processes at steps {first} and {last}, expected a folder that all of them see"
            )

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.count > 1:
            dist.barrier()


@contextmanager
def join_workers(device: str) -> Iterator[tuple[Workers, str]]:
    """Join the processes that torchrun started, gloo on CPUs, NCCL on GPUs; without torchrun there is one.

    Yields this process's place and its device. Nothing else in the program opens a network connection.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Workers(), device
        return
    if device == "cuda":
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', '0'))}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=JUDGING)
    try:
        yield Workers(dist.get_rank(), count), device
    finally:
        dist.destroy_process_group()


def split_into_groups(batch: int, group_size: int, parts: int) -> list[Tensor]:
    """Which images of a batch each of its parts takes: indices [batch / parts], such that D sees the same groups.

    A part's minibatch standard deviation then has the groups that the whole batch has. Raises ValueError where the
    groups can't be shared out evenly.
    """
    size = group_size_in(batch, group_size)
    groups = batch // size
    if groups % parts:
        raise ValueError(
            f"--batch: found {batch} images in {groups} groups of the minibatch standard deviation, expected a multiple"
            f" of {parts} groups (processes times --accumulate)"
        )
    members = torch.arange(batch).reshape(size, groups)  # minibatch_stddev: image i is in group i modulo groups
    return [part.reshape(-1) for part in members.chunk(parts, dim=1)]
