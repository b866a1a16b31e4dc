"""What holds for every test: shapes in types are checked, no dtype is promoted silently, programs compile fast."""

import functools
import gc
import os
from pathlib import Path

# The CPU's own lowerings are what most can go wrong in; JAX_PLATFORMS=cuda tests another platform.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# The programs here are small and many: what makes them fast takes three times what it saves to compile. Without fused
# multiply-adds (AVX, of x86, has none) nothing is rounded once in one program and twice in another.
# XLA_FLAGS= JAX_DISABLE_MOST_OPTIMIZATIONS=0 tests the programs that users run.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
os.environ.setdefault('XLA_FLAGS', '--xla_cpu_use_fusion_emitters=false --xla_cpu_max_isa=AVX')

from jaxtyping import install_import_hook

# The packages whose types have shapes, before anything imports them.
install_import_hook([f'resnet_jax.{name}' for name in ('analysis', 'data', 'models', 'train')], 'beartype.beartype')

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from configs import default
from resnet_jax.models.architecture import Architecture
from resnet_jax.models.resnet import ResNet
from tests.slurm import slurm  # noqa: F401  (a fixture)

jax.config.update('jax_numpy_dtype_promotion', 'strict')

# Pre-activation ResNet-20 on the digits, four times narrower than the paper's.
TINY = {
    **default.get_config().network.to_dict(),
    'placement': 'full_preactivation',
    'stem_width': 4,
    'widths': (4, 8, 16),
    'image_shape': (8, 8, 1),
    'classes': 10,
}


def pytest_addoption(parser):
    parser.addoption('--faults', action='store_true', help='the tests of faults in full: minutes, with their figures')


@pytest.fixture(scope='session')
def faults_full(pytestconfig):
    """Are the tests of faults to be carried out in full?"""
    return pytestconfig.getoption('faults')


@pytest.fixture
def figure(record_property):
    """`figure(name, text)`: what a test of faults has counted, for the table at the end of the session."""
    return lambda name, text: record_property('figure', (name, text))  # of a report, which workers hand over


def pytest_terminal_summary(terminalreporter, config):
    reports = [each for kind in terminalreporter.stats.values() for each in kind if getattr(each, 'when', '') == 'call']
    figures = [value for report in reports for key, value in report.user_properties if key == 'figure']
    if not (figures and config.getoption('faults')):
        return
    width = max(len(name) for name, _ in figures)
    terminalreporter.section('faults')
    for name, text in sorted(map(tuple, figures)):
        terminalreporter.write_line(f'{name:{width}}  {text}')


@pytest.fixture(scope='session', autouse=True)
def compilation_cache(tmp_path_factory):
    """Compiled programs, shared by this process and those it starts."""
    settings = {
        'jax_compilation_cache_dir': str(tmp_path_factory.mktemp('xla')),
        'jax_persistent_cache_min_entry_size_bytes': -1,
        'jax_persistent_cache_min_compile_time_secs': 0.0,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name.upper(), str(value))
            jax.config.update(name, value)
        reset_cache()  # what was compiled before has settled that there is none
        yield
        jax.config.update('jax_compilation_cache_dir', None)
        reset_cache()


@pytest.fixture(scope='module', autouse=True)
def few_programs():
    """A compiled program is several mappings, of which Linux lets a process have 65,530: of one more it dies."""
    yield
    mappings = Path('/proc/self/maps')
    if mappings.exists() and mappings.read_bytes().count(b'\n') > 15_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope='session', autouse=True)
def folder_indices(tmp_path_factory):
    """What is kept of folders of images: not in the home of whoever tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))
        yield


@pytest.fixture
def float64():
    """Within the test, JAX computes in float64 where it is asked to."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope='session')
def make_arch():
    """`make_arch(**fields)`: the tiny architecture, but for these fields."""
    return lambda **fields: Architecture(**(TINY | fields))


@pytest.fixture(scope='session')
def make_network(make_arch):
    """`make_network(dtype='float64', **fields)` -> (network, variables), as if trained: no statistic at its start."""

    @functools.cache
    def make(dtype='float64', scan_from=1, **fields):
        network = ResNet(make_arch(**fields), scan_from)
        rng = np.random.default_rng(0)
        shapes = jax.eval_shape(network.init_variables, jax.random.key(0))
        with jax.enable_x64(True):
            draw = functools.partial(_draw, rng, dtype)
            return network, jax.tree_util.tree_map_with_path(draw, shapes)

    return make


def _draw(rng, dtype, path, leaf):
    name = path[-1].key
    if name == 'kernel':
        values = rng.normal(size=leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[-4:-1]))
    elif name in ('scale', 'var'):
        values = rng.uniform(0.5, 1.5, leaf.shape)
    else:  # bias, mean
        values = 0.2 * rng.normal(size=leaf.shape)
    return jnp.asarray(values, dtype)


@pytest.fixture(scope='session')
def tiny(make_network):
    """A small pre-activation network and its variables, float32."""
    return make_network('float32')


@pytest.fixture(scope='session')
def tfds_dir():
    """The TFDS directory that holds CIFAR-10 as ArrayRecord; the test is skipped where there is none."""
    beside = Path(__file__).resolve().parents[2] / 'shared' / 'data' / 'tfds'
    path = Path(os.environ.get('RESNET_JAX_TEST_TFDS') or beside)
    if not (path / 'cifar10').is_dir():
        pytest.skip('needs CIFAR-10 as ArrayRecord: set RESNET_JAX_TEST_TFDS to the TFDS directory that holds it')
    return path


@pytest.fixture(scope='session')
def write_copy():
    """`write_copy(root, version, seed)` -> the path of a small CIFAR-10 in a TFDS directory."""
    from tests.data import copies

    return copies.write_copy
