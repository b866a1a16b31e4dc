"""Import and export: a run out of a file and a file out of a run; what does not fit is refused and leaves nothing."""

import contextlib
import hashlib
import io
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from resnet_jax import cli, run, spec
from resnet_jax.data import augment
from resnet_jax.errors import UserError
from resnet_jax.runtime import directory
from resnet_jax.runtime.checkpoint import Checkpoints
from resnet_jax.weights import exporting, importing, names
from resnet_jax.weights.files import Stored


def call(*arguments):
    """`resnet-jax weights …` in this process."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = cli.main(['weights', *map(str, arguments)])
    return SimpleNamespace(code=code, out=out.getvalue(), error=error.getvalue())


def stored(state):
    return {name: Stored(value.dtype.name, value.shape, value) for name, value in state.items()}


def refusal(state, arch):
    with pytest.raises(UserError) as caught:
        importing.take(stored(state), arch, 'it is no resnet18')
    return str(caught.value).split('\n')


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert jax.tree.structure(found) == jax.tree.structure(expected)


@pytest.fixture(scope='module')
def file(resnet18, tmp_path_factory):
    path = tmp_path_factory.mktemp('weights') / 'r18.safetensors'
    safetensors.numpy.save_file(resnet18[2], path)
    return path


@pytest.fixture(scope='module')
def imported(file):
    """The run of resnet18, and what the command said."""
    path = file.with_name('runs') / 'resnet18'
    return path, call('import', file, '--architecture', 'resnet18', '--out', path)


# Round trips


@pytest.mark.parametrize('name', ['seresnet50', 'preact_resnet50', 'nf_resnet50', 'resnet18d'])
def test_what_was_written_out_is_read_to_the_bit(architecture, draw, name):
    arch = architecture(name)
    variables = draw(arch)
    state = exporting.state_dict(variables, arch, names.libraries(arch)['timm'])
    found = importing.take(stored(state), arch, '')
    assert_same(found.variables, variables)
    assert found.library == 'timm' and not found.converted


def test_an_imported_run_has_the_files_variables_at_step_0(resnet18, imported):
    path, said = imported
    assert said.code == 0 and 'by the names of torchvision' in said.out, said
    opened = run.load(path)
    assert opened.step == int(opened.state.step) == 0
    assert opened.title == 'resnet18' and opened.config.data.dataset == 'imagenet2012'
    assert_same(jax.device_get(opened.variables), resnet18[1])
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(opened.state.opt_state))


def test_an_imported_run_is_another_run_than_one_from_scratch_or_of_another_file(file, imported):
    config = run.load(imported[0]).config
    assert config.train.start_from == f'sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}'
    other = config.copy_and_resolve_references()
    other.train.start_from = 'sha256:00'
    scratch = names.settings('resnet18')
    assert len({spec.identity(each) for each in (config, other, scratch)}) == 3


def test_without_labels_it_is_said_that_the_classes_are_numbers(imported, file, tmp_path):
    assert 'the classes are numbers; --labels FILE' in imported[1].out
    labels = tmp_path / 'labels.txt'
    labels.write_text('one\n' * 1000)
    done = call('import', file, '--architecture', 'resnet18', '--out', tmp_path / 'run', '--labels', labels)
    assert done.code == 0 and '--labels' not in done.out


def test_what_computes_something_else_there_is_said_on_both_ways(architecture, draw, tmp_path):
    arch = architecture('resnet50_v1')
    state = exporting.state_dict(draw(arch), arch, names.libraries(arch)['torchvision'])
    safetensors.numpy.save_file(state, tmp_path / 'v1.safetensors')
    there = call('import', tmp_path / 'v1.safetensors', '--architecture', 'resnet50_v1', '--out', tmp_path / 'run')
    back = call('export', tmp_path / 'run', '--out', tmp_path / 'back.safetensors')
    for done in (there, back):
        assert done.code == 0 and 'resnet50_v1 strides in the first 1x1 of a block' in done.out, done


def test_a_vgg_of_another_map_than_the_libraries_is_refused():
    config = names.settings('vgg19')
    config.data.update(dataset='cifar10', crop_fraction=1.0)
    with pytest.raises(UserError, match=r'vgg19 of images of 32x32 flattens a map of 1 pixels, .* one of 49: '):
        exporting.check_map('vgg19', spec.architecture(config))
    exporting.check_map('vgg19', spec.architecture(names.settings('vgg19')))


def test_an_imported_run_knows_its_images_its_classes_and_where_it_came_from(file, imported):
    path, _ = imported
    (mean, deviation), classes = directory.read_preprocessing(path)
    np.testing.assert_array_equal(mean, augment.IMAGENET.mean)
    np.testing.assert_array_equal(deviation, augment.IMAGENET.deviation)
    assert classes == tuple(str(label) for label in range(1000))
    assert directory.read_environment(path)['jax']
    assert json.loads((path / 'weights.json').read_text()) == {
        'file': 'r18.safetensors', 'sha256': hashlib.sha256(file.read_bytes()).hexdigest(), 'format': 'safetensors',
        'names': 'torchvision',
    }  # fmt: skip
    assert not [each for each in path.parent.iterdir() if each != path]


@pytest.mark.parametrize('library', ['torchvision', 'timm'])
def test_an_imported_run_is_exported_to_the_bit(resnet18, imported, tmp_path, library):
    done = call('export', imported[0], '--out', tmp_path / 'out.safetensors', '--names', library)
    assert done.code == 0 and 'resnet18' in done.out, done
    found = safetensors.numpy.load_file(tmp_path / 'out.safetensors')
    assert found.keys() == resnet18[2].keys()
    for name, value in resnet18[2].items():
        np.testing.assert_array_equal(found[name], value, strict=True)


def test_labels_name_the_classes(file, tmp_path):
    labels = tmp_path / 'labels.txt'
    labels.write_text(''.join(f'class {label}\n' for label in range(1000)))
    importing.import_weights(file, 'resnet18', tmp_path / 'run', labels=labels)
    assert directory.read_preprocessing(tmp_path / 'run')[1][999] == 'class 999'


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16', 'float64'])
def test_other_floats_are_converted_and_that_is_told(resnet18, dtype):
    arch, variables, state = resnet18
    found = importing.take(
        stored({name: value.astype(jnp.dtype(dtype)) for name, value in state.items()}), arch, ''
    )  # fmt: skip
    assert found.converted == {dtype: sum('num_batches' not in name for name in state)}
    assert_same(found.variables, jax.tree.map(lambda leaf: leaf.astype(dtype).astype(np.float32), variables))


def test_counts_of_batches_are_not_looked_at(resnet18):
    arch, variables, state = resnet18
    state = {name: value for name, value in state.items() if 'num_batches_tracked' not in name}
    assert_same(importing.take(stored(state), arch, '').variables, variables)


# What does not fit


def test_every_tensor_that_does_not_fit_has_a_line(resnet18):
    arch, _, state = resnet18
    state = {
        **state,
        'layer1.0.bn1.bias': np.zeros(32, np.float32),
        'layer1.0.bn2.weight': np.zeros(64, np.int32),
        'layer1.1.bn1.running_mean': np.full(64, np.nan, np.float32),
        'layer1.1.bn1.running_var': np.full(64, 1e300),  # infinite in float32
        'aux.weight': np.zeros((2, 3), np.float32),
    }
    del state['conv1.weight']
    fake = {name: value._replace(values=None) if value.dtype == 'int32' else value
            for name, value in stored(state).items()}  # fmt: skip
    with pytest.raises(UserError) as caught:
        importing.take(fake, arch, 'it is no resnet18')
    assert [line.strip() for line in str(caught.value).split('\n')] == [
        'it is no resnet18 (by the names of torchvision):',
        'conv1.weight: expected 64x3x7x7, found none',
        'layer1.0.bn1.bias: expected 64, found 32',
        'layer1.0.bn2.weight: expected floats, found int32',
        'layer1.1.bn1.running_mean: expected finite numbers, found NaN or infinity',
        'layer1.1.bn1.running_var: expected finite numbers, found NaN or infinity',
        'aux.weight: expected none, found 2x3',
    ]


def test_no_more_than_twenty_lines_are_shown(resnet18):
    lines = refusal({}, resnet18[0])
    assert len(lines) == 22 and lines[-1].strip() == '… and 82 more'  # resnet18 has 102 tensors


def test_a_classifier_of_other_classes_is_refused_with_a_hint(resnet18):
    arch, _, state = resnet18
    state = {**state, 'fc.weight': np.zeros((10, 512), np.float32), 'fc.bias': np.zeros(10, np.float32)}
    lines = refusal(state, arch)
    assert len(lines) == 3
    for line in lines[1:]:
        assert line.endswith('a classifier must have the 1000 classes of the dataset')


def test_a_tensor_of_as_many_numbers_in_another_shape_is_refused(resnet18):
    arch, _, state = resnet18
    state = {**state, 'fc.weight': np.ascontiguousarray(state['fc.weight'].T)}
    assert refusal(state, arch)[1].strip() == 'fc.weight: expected 1000x512, found 512x1000'


def test_a_refused_file_leaves_nothing(file, tmp_path):
    done = call('import', file, '--architecture', 'resnet34', '--out', tmp_path / 'run')
    assert done.code == 2 and 'is no resnet34' in done.error and done.error.endswith('more\n')
    assert not list(tmp_path.iterdir())


def test_an_import_that_fails_while_it_writes_leaves_nothing(file, tmp_path, monkeypatch):
    def full(*_):
        raise UserError('the disk is full')

    monkeypatch.setattr(Checkpoints, 'save', full)
    with pytest.raises(UserError, match='the disk is full'):
        importing.import_weights(file, 'resnet18', tmp_path / 'run')
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_taken_is_left_as_it_is(file, tmp_path):
    (tmp_path / 'run').mkdir()
    done = call('import', file, '--architecture', 'resnet18', '--out', tmp_path / 'run')
    assert done.code == 2 and 'exists; give a new directory with --out' in done.error
    assert not list((tmp_path / 'run').iterdir())


def test_a_place_that_cannot_be_written_is_named(file, tmp_path):
    (tmp_path / 'file').write_text('')
    done = call('import', file, '--architecture', 'resnet18', '--out', tmp_path / 'file' / 'run')
    assert done.code == 2 and 'cannot write' in done.error and done.error.count('\n') == 1


@pytest.mark.parametrize(('text', 'message'), [
    ('one\ntwo\n', 'has 2 lines; give one for each of the 1000 classes'), (None, 'cannot be read'),
    (b'\xff\xfe', 'cannot be read'),
])  # fmt: skip
def test_labels_that_do_not_fit_are_refused(tmp_path, text, message):
    labels = tmp_path / 'labels.txt'
    if text is not None:
        labels.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message):
        importing.read_labels(labels, 1000)


def test_another_hash_is_refused(file, tmp_path):
    done = call('import', file, '--architecture', 'resnet18', '--out', tmp_path / 'run', '--sha256', 'ab' * 32)
    assert done.code == 2 and 'abab' in done.error and done.error.count('\n') == 1
    assert not (tmp_path / 'run').exists()


def test_an_export_that_cannot_be_written_is_refused(imported, tmp_path):
    (tmp_path / 'file').write_text('')
    done = call('export', imported[0], '--out', tmp_path / 'file' / 'out.safetensors')
    assert done.code == 2 and 'cannot write' in done.error and done.error.count('\n') == 1


def test_names_that_a_library_has_none_of_are_refused(architecture, draw, tmp_path):
    config = names.settings('resnet18d')
    importing._write(tmp_path / 'run', config, draw(architecture('resnet18d')), [], {})
    done = call('export', tmp_path / 'run', '--out', tmp_path / 'x.safetensors', '--names', 'torchvision')
    assert done.code == 2 and 'torchvision has no names for resnet18d; export with --names timm' in done.error


@pytest.mark.parametrize(('out', 'message'), [
    ('out.pth', 'must end in .safetensors'), ('there.safetensors', 'exists; give a new file with --out'),
])  # fmt: skip
def test_export_overwrites_nothing_and_writes_no_pickles(imported, tmp_path, out, message):
    (tmp_path / 'there.safetensors').write_bytes(b'mine')
    done = call('export', imported[0], '--out', tmp_path / out)
    assert done.code == 2 and message in done.error
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b'mine']
