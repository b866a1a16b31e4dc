"""PyTorch as it takes turns in a benchmark of whole networks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from ml_collections import ConfigDict
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from benchmarks import peers
from benchmarks.timing import Calls
from resnet_jax.cores import cores
from resnet_jax.models import zoo
from resnet_jax.models.architecture import Architecture


def calls(
    name: str, arch: Architecture, config: ConfigDict, images: np.ndarray, labels: np.ndarray, compiled: str = ''
) -> Calls:
    """`train step`, which keeps its own state from call to call, and `evaluation`, in channels-last.

    Args:
      name: torchvision's network is taken where it has it.
      config: under autocast where it computes in bfloat16.
      compiled: the mode of `torch.compile`; '' is eager.
    """
    model = peers.torchvision().models.get_model(name) if zoo.dataset(name) == 'imagenet2012' else peers.ResNet(arch)
    run, step = _trained(model, config, compiled)
    inputs = _placed(torch.tensor(images).permute(0, 3, 1, 2))
    targets = torch.tensor(labels).long().to(inputs.device)

    def train_step() -> None:
        step(inputs, targets)
        _wait()

    def evaluation() -> None:
        model.eval()
        with torch.inference_mode(), _autocast(config):
            run(inputs)
        _wait()

    return {'train step': train_step, 'evaluation': evaluation}


def epoch(arch: Architecture, config: ConfigDict, examples: int, compiled: str = '') -> Callable[[], object]:
    """An epoch of a CIFAR network, its images on the device, cropped at random and flipped there."""
    size, side = config.train.batch_size, arch.image_shape[0]
    _, step = _trained(peers.ResNet(arch), config, compiled)
    images = _placed(torch.randn(examples, 3, side, side))
    labels = torch.randint(0, arch.classes, (examples,), device=images.device)

    def train() -> None:
        order = torch.randperm(examples, device=images.device)
        for start in range(0, examples - size + 1, size):
            chosen = order[start : start + size]
            step(_augmented(images[chosen]), labels[chosen])
        _wait()

    return train


def deletions(arch: Architecture, variables: dict, images: np.ndarray, labels: np.ndarray) -> Callable[[], np.ndarray]:
    """Which images are classified rightly without each block, by turns: (blocks, images)."""
    torch.set_num_threads(len(cores()))
    model = peers.ResNet(arch)
    peers.take_variables(model, arch, variables)
    model = model.to(_device(), memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]
    inputs = _placed(torch.tensor(images).permute(0, 3, 1, 2))

    def without(block: Any) -> np.ndarray:
        hook = block.register_forward_hook(lambda block, given, _: block.beside(given[0]))
        try:
            return model(inputs).argmax(-1).cpu().numpy() == labels
        finally:
            hook.remove()

    def call() -> np.ndarray:
        with torch.inference_mode():
            return np.stack([without(block) for block in model.blocks])

    return call


def _trained(model: torch.nn.Module, config: ConfigDict, compiled: str) -> tuple[Callable, Callable]:
    """The network, placed, and `step(images, labels)`."""
    torch.set_num_threads(len(cores()))
    torch.backends.cudnn.benchmark = True  # as XLA tries what is fastest
    model = model.to(_device(), memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    run = torch.compile(model, mode=compiled) if compiled else model
    optimizer = torch.optim.SGD(model.parameters(), 0.1, config.train.momentum, weight_decay=config.train.weight_decay)

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        if not model.training:
            model.train()
        optimizer.zero_grad()
        with _autocast(config):
            loss = functional.cross_entropy(run(images), labels)
        loss.backward()
        optimizer.step()

    return run, step


def _augmented(images: torch.Tensor) -> torch.Tensor:
    """Each image cropped at random out of itself with 4 pixels of 0 around, and half of them flipped."""
    count, _, side, _ = images.shape
    padded = functional.pad(images, (4, 4, 4, 4)).permute(0, 2, 3, 1)
    top, left = torch.randint(0, 9, (2, count, 1), device=images.device)
    along = torch.arange(side, device=images.device)
    rows, columns = (top + along)[:, :, None], (left + along)[:, None]
    cropped = padded[torch.arange(count, device=images.device)[:, None, None], rows, columns]
    flipped = torch.rand(count, device=images.device)[:, None, None, None] < 0.5
    return torch.where(flipped, cropped.flip(2), cropped).permute(0, 3, 1, 2)


def _placed(images: torch.Tensor) -> torch.Tensor:
    return images.to(_device()).contiguous(memory_format=torch.channels_last)


def _device() -> str:
    return 'cuda' if torch.cuda.is_available() else 'cpu'


def _autocast(config: ConfigDict) -> torch.autocast:
    return torch.autocast(_device(), torch.bfloat16, enabled=config.train.compute == 'bfloat16')


def _wait() -> None:
    if _device() == 'cuda':
        torch.cuda.synchronize()
