"""The input pipeline on ImageNet photographs of a TFDS directory: how fast, how steady, how soon.

./launch.sh bench input [decode] [loaders] [training] [memory] [index]      all of them without an argument

$TFDS_DATA_DIR/imagenet2012 has the photographs; a sample will do.
"""

import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

try:
    import torch  # pyright: ignore[reportMissingImports]
except ImportError:
    sys.exit('this benchmark compares with PyTorch, which is not installed; benchmarks/README.md says how')

from benchmarks import timing
from configs import imagenet
from resnet_jax.cores import cores
from resnet_jax.data import sources
from resnet_jax.data.batches import Share, TrainingBatches
from resnet_jax.data.crops import DRAWS, drawing, random_resized
from resnet_jax.data.decode import cut
from resnet_jax.data.folder import open_folder
from resnet_jax.data.order import plan
from resnet_jax.data.stream import placed, stream
from resnet_jax.runtime import mesh
from resnet_jax.train.optimizer import make_optimizer
from resnet_jax.train.start import make_network
from resnet_jax.train.state import initial_state, layout_of
from resnet_jax.train.step import one_step

PIXELS, BATCH = 224, 64
PHOTOGRAPHS, LARGE = 320, 2000
FILES, FOLDERS = 1_000_000, 1_000


def decode() -> None:
    """One thread: bytes in memory -> decoded, random resized crop, flip, 224 px, uint8 (torchvision: floats)."""
    encoded = [example[0] for example in _source().read(range(PHOTOGRAPHS)) if isinstance(example, tuple)]
    _decode('photographs as they are', encoded)
    _decode(f'the same enlarged to {LARGE} px, quality 90', [_enlarged(each) for each in encoded[: PHOTOGRAPHS // 8]])


def _decode(what: str, encoded: list[bytes]) -> None:
    draws = np.random.RandomState(0).random_sample((len(encoded), DRAWS))
    choose = drawing(_config().data, PIXELS)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)

    def ours(exact: bool) -> None:
        for each, row in zip(encoded, draws, strict=True):
            _flipped(cut(each, partial(choose, row), PIXELS, 3, exact=exact), row)

    def opencv(how: int) -> None:
        for each, row in zip(encoded, draws, strict=True):
            _by_opencv(each, row, how)

    transform = _pillow_transform()
    times = timing.interleaved({
        'ours, scaled': partial(ours, False),
        'ours, exact': partial(ours, True),
        'Pillow and torchvision transforms': lambda: [transform(_pillow(each)) for each in encoded],
        'OpenCV, bilinear': partial(opencv, cv2.INTER_LINEAR),
        'OpenCV, antialiased (area)': partial(opencv, cv2.INTER_AREA),
    }, repeats=5)  # fmt: skip
    first = times['ours, scaled']
    rows = [(name, f'{len(encoded) / seconds:,.0f}', f'{seconds / first:.2f}x') for name, seconds in times.items()]
    timing.show(f'One thread, {what}', ('by', 'images/s', 'ours is'), rows)


def loaders() -> None:
    """All cores: batches of 64 ready on the host, in turns."""
    ours = stream(_batches(10**6), 0, 0)
    peers = {'PyTorch DataLoader, Pillow': _loader(_pillow_item), 'PyTorch DataLoader, OpenCV': _loader(_opencv_item)}
    runs = {'ours, threads': partial(_take, ours, 20)}
    runs |= {name: partial(_take, loader, 20) for name, loader in peers.items()}
    times = timing.interleaved(runs, repeats=3)
    count, first = 20 * BATCH, times['ours, threads']
    rows = [
        (name, f'{count / seconds / len(cores()):,.0f}', f'{seconds / first:.2f}x') for name, seconds in times.items()
    ]
    timing.show('Batches of 64 at 224 px', ('by', 'images/s/core', 'ours is'), rows)


def training() -> None:
    """ResNet-18 at 224 px: steps fed by the stream, and by one batch that lies on the device."""
    config = _config('resnet18')
    config.train.batch_size = 32
    network, optimizer = make_network(config), make_optimizer(config)
    devices, start = mesh.all_devices(), initial_state(network, optimizer, 0)
    layout, whole = layout_of(start, devices), mesh.whole(devices)
    step, state = one_step(network, optimizer, config, devices, layout), [mesh.place(start, layout)]
    normalization, none_skipped = mesh.place(_imagenet(), whole), mesh.place(np.int32(0), whole)
    fed = placed(stream(_batches(10**6, 32), 0, 0), mesh.spread(devices))
    noise, _ = next(fed)

    def steps(batches: Callable) -> object:
        for _ in range(4):
            batch = batches()
            state[0] = step(state[0], batch, normalization, none_skipped)
        return state[0].step

    times = timing.interleaved({'fed': lambda: steps(lambda: next(fed)[0]), 'synthetic': lambda: steps(lambda: noise)})
    ratio = times['synthetic'] / times['fed']
    rows = [(name, f'{4 * 32 / seconds:.1f}') for name, seconds in times.items()]
    timing.show(f'Training ResNet-18 at 224 px: fed at {100 * ratio:.1f} % of the synthetic rate',
                ('batches', 'images/s'), rows)  # fmt: skip


def memory() -> None:
    """Resident memory after each of ten passes of 2,560 images through the stream; and how soon the first comes."""
    begin, rows = time.perf_counter(), []
    batches = stream(_batches(10**6), 0, 0)
    next(batches)
    first = time.perf_counter() - begin
    for number in range(10):
        _take(batches, 40)
        rows.append((number + 1, f'{_resident():,.0f}'))
    timing.show(f'Memory of a stream; its first batch after {first:.2f} s', ('pass', 'MiB'), rows, 'one run')


def index() -> None:
    """A million files of a byte in a thousand folders, indexed and reopened."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ['XDG_CACHE_HOME'] = f'{scratch}/cache'
        root = Path(scratch) / 'photographs'
        for folder in range(FOLDERS):
            (root / f'class{folder:03}').mkdir(parents=True)
            for file in range(FILES // FOLDERS):
                (root / f'class{folder:03}' / f'{file:04}.jpg').write_bytes(b'0')
        time.sleep(3)  # an index is not kept while a folder changed less than two seconds ago
        rows = []
        for name in ('indexed', 'reopened'):
            begin = time.perf_counter()
            open_folder(root, 0.2, lambda *_: None)
            rows.append((name, f'{time.perf_counter() - begin:.2f} s'))
    timing.show(f'{FILES:,} files in {FOLDERS:,} folders', ('', ''), rows, 'one run')


def _config(network: str = 'resnet50'):
    config = imagenet.get_config(network)
    config.train.batch_size = BATCH
    return config


def _source():
    return sources.load(_config().data).source('train')


def _batches(steps: int, batch: int = BATCH) -> TrainingBatches:
    config, source = _config(), _source()
    config.train.batch_size = batch
    return TrainingBatches(source, plan(config, len(source), PIXELS), config.data, 3, steps, Share(0, 1))


def _imagenet():
    from resnet_jax.data.augment import IMAGENET

    return IMAGENET


def _flipped(image: np.ndarray, row: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[:, ::-1]) if row[0] < 0.5 else image


def _take(batches: Iterator, count: int) -> None:
    for _ in range(count):
        next(batches)


def _resident() -> float:
    """MiB."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 2**20


def _pillow(encoded: bytes) -> Image.Image:
    return Image.open(io.BytesIO(encoded)).convert('RGB')


@cache
def _pillow_transform() -> Callable:
    """As PyTorch's ImageNet example has it."""
    from benchmarks.peers import torchvision

    t = torchvision().transforms
    return t.Compose([
        t.RandomResizedCrop(PIXELS), t.RandomHorizontalFlip(), t.ToTensor(),
        t.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    ])  # fmt: skip


class _Items:
    """A map-style dataset of PyTorch over the same records."""

    def __init__(self, source, item: Callable):
        self.source, self.item = source, item

    def __len__(self) -> int:
        return 10**6

    def __getitem__(self, index: int):
        encoded, label = self.source.read([index % len(self.source)])[0]
        return self.item(encoded), label


def _pillow_item(encoded: bytes):
    return _pillow_transform()(_pillow(encoded))


def _opencv_item(encoded: bytes):
    """Bytes, which the collation stacks: as lean as it gets."""
    return _by_opencv(encoded, np.random.default_rng().random(DRAWS), cv2.INTER_LINEAR)


def _by_opencv(encoded: bytes, row: np.ndarray, how: int) -> np.ndarray:
    decoded: Any = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    image = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    box = random_resized(row, image.shape[1], image.shape[0], (0.08, 1.0), (3 / 4, 4 / 3))
    part = image[box.top : box.bottom, box.left : box.right]
    return _flipped(cv2.resize(part, (PIXELS, PIXELS), interpolation=how), row)


def _enlarged(encoded: bytes) -> bytes:
    """As a camera of some megapixels would have it, if smoother."""
    image, file = _pillow(encoded), io.BytesIO()
    size = [LARGE * side // max(image.size) for side in image.size]
    image.resize(size, Image.Resampling.BICUBIC).save(file, 'JPEG', quality=90)
    return file.getvalue()


def _loader(item: Callable) -> Iterator:
    # Not forked, which is PyTorch's default: JAX has threads.
    items: Any = _Items(_source(), item)
    return iter(torch.utils.data.DataLoader(
        items, batch_size=BATCH, num_workers=len(cores()), multiprocessing_context='spawn'
    ))  # fmt: skip


PARTS = {part.__name__: part for part in (decode, loaders, training, memory, index)}

if __name__ == '__main__':
    for name in sys.argv[1:] or PARTS:
        if name not in PARTS:
            sys.exit(f'there is no part {name}; there are {", ".join(PARTS)}')
        PARTS[name]()
