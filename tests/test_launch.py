"""The one door, in real processes: a checkout of its own, with a stand-in package and no package index."""

import base64
import csv
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REQUIREMENTS = sorted((ROOT / 'requirements').glob('*.txt'))

# The stand-in of resnet_jax.cli: shows what it was given, waits for a signal, or exits as told.
CLI = """
import importlib.metadata, json, os, signal, sys
def main():
    if sys.argv[1:2] == ['exit']:
        return int(sys.argv[2])
    if sys.argv[1:2] == ['wait']:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    print(json.dumps({'argv': sys.argv[1:], 'cwd': os.getcwd(), 'pid': os.getpid(), 'env': dict(os.environ),
                      'pinned': importlib.metadata.version('pinned')}), flush=True)
    if sys.argv[1:2] == ['wait']:
        signal.pause()
"""

# A build backend within the checkout, since there is no index to take one from: it has its wheel ready.
BACKEND = """
import shutil
def build_editable(folder, config_settings=None, metadata_directory=None):
    return shutil.copy({wheel!r}, folder).rpartition('/')[2]
"""


def wheel(folder, name, version, files=None, metadata=None):
    """Writes a wheel by hand."""
    info = f'{name}-{version}.dist-info'
    files = dict(files or {})
    files[f'{info}/METADATA'] = f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
    files[f'{info}/WHEEL'] = 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n'
    files |= {f'{info}/{key}': value for key, value in (metadata or {}).items()}
    record = io.StringIO()
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()
        csv.writer(record).writerow((path, f'sha256={digest}', len(text.encode())))
    csv.writer(record).writerow((f'{info}/RECORD', '', ''))
    path = Path(folder) / f'{name}-{version}-py3-none-any.whl'
    with zipfile.ZipFile(path, 'w') as archive:
        for file, text in (files | {f'{info}/RECORD': record.getvalue()}).items():
            archive.writestr(zipfile.ZipInfo(file), text)  # of one date, so that the same wheel has the same hash
    return path


def pin(checkout, name, *packages, digest=None):
    """Writes requirements/<name>.txt: those (name, version)s, with their hashes or with `digest`."""
    lines = []
    for package, version in packages:
        path = wheel(checkout.parent / 'wheels', package, version)
        lines.append(f'{package}=={version} --hash=sha256:{digest or hashlib.sha256(path.read_bytes()).hexdigest()}\n')
    (checkout / 'requirements' / f'{name}.txt').write_text(''.join(lines))


def make_checkout(folder):
    checkout = folder / 'a check out'
    for directory in (checkout / 'resnet_jax', checkout / 'requirements', folder / 'wheels', folder / 'home'):
        directory.mkdir(parents=True)
    shutil.copy(ROOT / 'launch.sh', checkout)
    (checkout / 'resnet_jax' / 'cli.py').write_text(CLI)
    scripts = {'entry_points.txt': '[console_scripts]\nresnet-jax = resnet_jax.cli:main\n'}
    editable = wheel(folder, 'resnet_jax', '0', {'resnet_jax.pth': str(checkout)}, scripts)
    (checkout / 'backend.py').write_text(BACKEND.format(wheel=str(editable)))
    (checkout / 'pyproject.toml').write_text(
        "[project]\nname = 'resnet-jax'\nversion = '0'\n"
        "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
    )
    pin(checkout, 'build', ('tool', '1.0'))
    pin(checkout, 'cpu', ('tool', '1.0'), ('pinned', '1.0'))
    pin(checkout, 'cuda', ('tool', '1.0'), ('pinned', '1.0'), ('accelerator', '1.0'))
    return checkout


def environment(checkout, **more):
    folder = checkout.parent
    return {
        'PATH': os.environ['PATH'],
        'HOME': str(folder / 'home'),
        'PIP_CONFIG_FILE': os.devnull,
        'PIP_NO_INDEX': '1',
        'PIP_FIND_LINKS': str(folder / 'wheels'),
        'RESNET_JAX_PLATFORM': 'cpu',
        **more,
    }


def start(checkout, *arguments, cwd=None, **more):
    """Runs the checkout's launch.sh to its end."""
    return subprocess.run(
        [checkout / 'launch.sh', *arguments],
        env=environment(checkout, **more), cwd=cwd or checkout, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    """A checkout that has been started once."""
    checkout = make_checkout(tmp_path_factory.mktemp('launch'))
    first = start(checkout)
    assert first.returncode == 0, first.stderr
    assert first.stderr.startswith('launch.sh: setting up .venv for cpu (RESNET_JAX_PLATFORM says so)\n')
    main_job = json.loads(first.stdout)['argv']
    assert main_job[:5] == ['train', '--config', 'configs/digits.py', '--run', 'runs/digits']
    assert main_job[5:] == ['--then', 'lesion:beyond=False']
    return checkout


def test_a_second_start_installs_nothing_and_says_nothing(checkout):
    before = (checkout / '.venv/installed').stat().st_mtime_ns
    again = start(checkout, 'exit', '0', PIP_FIND_LINKS='/nowhere')
    assert (again.returncode, again.stdout, again.stderr) == (0, '', '')
    assert (checkout / '.venv/installed').stat().st_mtime_ns == before


@pytest.mark.parametrize('code', ['0', '2', '75'])
def test_the_exit_code_is_the_commands(checkout, code):
    assert start(checkout, 'exit', code).returncode == int(code)


def test_elsewhere_arguments_stay_as_given_and_the_main_job_finds_the_checkout(checkout, tmp_path):
    seen = json.loads(start(checkout, 'train', '--run', 'my runs/x', '', cwd=tmp_path).stdout)
    assert (seen['argv'], seen['cwd']) == (['train', '--run', 'my runs/x', ''], str(tmp_path))
    main_job = json.loads(start(checkout, cwd=tmp_path).stdout)['argv']
    assert main_job[1:5] == ['--config', f'{checkout}/configs/digits.py', '--run', f'{checkout}/runs/digits']


@pytest.mark.parametrize(
    ('given', 'passed_on'),
    [
        ({}, 'glibc.malloc.hugetlb=1'),
        ({'GLIBC_TUNABLES': 'glibc.malloc.arena_max=4'}, 'glibc.malloc.arena_max=4:glibc.malloc.hugetlb=1'),
        ({'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=0'}, 'glibc.malloc.hugetlb=0'),
    ],
)
def test_on_a_cpu_memory_comes_in_huge_pages_unless_the_user_chose(checkout, given, passed_on):
    assert json.loads(start(checkout, 'show', **given).stdout)['env']['GLIBC_TUNABLES'] == passed_on


def test_signals_reach_python_itself(checkout):
    with subprocess.Popen(
        [checkout / 'launch.sh', 'wait'], env=environment(checkout), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())['pid'] == process.pid
        process.terminate()
        assert process.wait(timeout=30) == 75


def test_an_accelerators_build_is_added_and_serves_the_cpu_too(checkout):
    added = start(checkout, 'show', RESNET_JAX_PLATFORM='cuda')
    assert 'setting up .venv for cuda' in added.stderr
    assert 'GLIBC_TUNABLES' not in json.loads(added.stdout)['env']
    assert list(checkout.glob('.venv/lib/python*/site-packages/accelerator-1.0.dist-info'))
    on_cpu = start(checkout, 'show')
    assert on_cpu.stderr == ''
    assert json.loads(on_cpu.stdout)['env']['JAX_PLATFORMS'] == 'cpu'


@pytest.mark.skipif(bool(list(Path('/dev').glob('nvidia[0-9]*'))), reason='this machine has a GPU')
def test_the_platform_is_what_the_machine_has(checkout, tmp_path):
    found = json.loads(start(checkout, 'show', RESNET_JAX_PLATFORM='').stdout)['env']
    assert 'GLIBC_TUNABLES' in found
    assert 'JAX_PLATFORMS' not in found  # a sweep hands its environment on, perhaps to machines with an accelerator
    tool = tmp_path / 'nvidia-smi'
    tool.write_text('#!/bin/sh\n')
    tool.chmod(0o755)
    path = f'{tmp_path}:{os.environ["PATH"]}'
    found = json.loads(start(checkout, 'show', RESNET_JAX_PLATFORM='', PATH=path).stdout)['env']
    assert 'GLIBC_TUNABLES' not in found


def test_a_changed_pin_is_installed(checkout):
    pin(checkout, 'cpu', ('tool', '1.0'), ('pinned', '2.0'))
    assert json.loads(start(checkout, 'show').stdout)['pinned'] == '2.0'


def test_a_wrong_hash_is_refused_and_leaves_nothing_that_counts_as_installed(checkout):
    pin(checkout, 'tpu', ('accelerator', '1.0'), digest='0' * 64)
    refused = start(checkout, 'show', RESNET_JAX_PLATFORM='tpu')
    assert (refused.returncode, refused.stdout) == (1, '')
    assert 'THESE PACKAGES DO NOT MATCH THE HASHES' in refused.stderr
    assert refused.stderr.endswith('launch.sh: set-up did not finish; the same command starts it again\n')
    assert (checkout / '.venv/installed').read_text() == ''


@pytest.mark.skipif(shutil.which('flock') is None, reason='no flock on this system')
def test_after_a_kill_in_the_middle_two_starts_at_once_set_up_once(tmp_path):
    checkout = make_checkout(tmp_path)
    arguments = {'env': environment(checkout), 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True}
    with subprocess.Popen([checkout / 'launch.sh', 'show'], start_new_session=True, **arguments) as process:
        assert process.stderr is not None
        assert 'setting up' in process.stderr.readline()
        while not list(checkout.glob('.venv/lib/python*/site-packages/pip/*')):
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
    assert (checkout / '.venv/installed').read_text() == ''

    two = [subprocess.Popen([checkout / 'launch.sh', 'show'], **arguments) for _ in range(2)]
    answers = [process.communicate(timeout=120) for process in two]
    assert [process.returncode for process in two] == [0, 0], answers
    assert [json.loads(out)['pinned'] for out, _ in answers] == ['1.0', '1.0']
    assert sum('setting up .venv for' in err for _, err in answers) == 1


def test_a_foreign_environment_is_left_alone(tmp_path):
    checkout = make_checkout(tmp_path)
    (checkout / '.venv').mkdir()
    (checkout / '.venv/mine').touch()
    refused = start(checkout, 'show')
    assert refused.returncode == 2
    assert 'move it away' in refused.stderr
    assert [path.name for path in (checkout / '.venv').iterdir()] == ['mine']


def path_without_python(folder):
    """A PATH with what launch.sh needs of the system, and no Python."""
    folder.mkdir()
    for tool in ('bash', 'cat', 'cmp', 'dirname', 'env', 'find', 'flock', 'grep', 'mkdir', 'mv', 'rm'):
        if found := shutil.which(tool):
            (folder / tool).symlink_to(found)
    return folder


def test_what_is_missing_is_named(tmp_path):
    checkout, tools = make_checkout(tmp_path), path_without_python(tmp_path / 'bin')
    refused = start(checkout, PATH=str(tools))
    assert (refused.returncode, refused.stdout) == (2, '')
    assert refused.stderr.startswith('launch.sh: no Python of at least 3.11 ')
    python = tools / 'python3'  # as on a Debian without python3-venv
    python.write_text('#!/usr/bin/env bash\n[[ $* != *ensurepip* ]]\n')
    python.chmod(0o755)
    refused = start(checkout, PATH=str(tools))
    assert refused.returncode == 2
    assert 'install the package python3-venv' in refused.stderr
    assert not (checkout / '.venv').exists()


def test_an_unknown_platform_is_refused(checkout):
    refused = start(checkout, RESNET_JAX_PLATFORM='gpu')
    assert refused.returncode == 2
    assert refused.stderr == "launch.sh: RESNET_JAX_PLATFORM is 'gpu'; it is one of cpu, cuda, tpu\n"


def test_help_installs_nothing(tmp_path):
    checkout = make_checkout(tmp_path)
    told = start(checkout, '--help')
    assert told.returncode == 0
    assert './launch.sh test' in told.stdout
    assert not (checkout / '.venv').exists()


def pins(path):
    """{(package, marker): version} of a requirements file, every line of which is accounted for."""
    found = {}
    for entry in re.sub(r'\\\n|^ *#.*\n', '', path.read_text(), flags=re.MULTILINE).splitlines():
        match = re.fullmatch(r'([\w.-]+)==([\w.]+)( ; [^\\]+?)?((?: +--hash=sha256:[0-9a-f]{64})+)', entry.rstrip())
        assert match, f'{path.name}: {entry[:80]!r} is not pinned with hashes'
        found[match[1], match[3]] = match[2]
    return found


def test_every_pin_has_hashes_and_the_sets_agree():
    assert [path.stem for path in REQUIREMENTS] == ['build', 'cpu', 'cuda', 'dev', 'test', 'tpu']
    sets = {path.stem: pins(path) for path in REQUIREMENTS}
    everything = {key: version for found in sets.values() for key, version in found.items()}
    assert all(everything[key] == version for found in sets.values() for key, version in found.items())
    assert sets['build'].items() <= sets['cpu'].items() <= sets['test'].items() <= sets['dev'].items()
    assert sets['cpu'].keys() <= sets['cuda'].keys() & sets['tpu'].keys()
    assert sets['cpu']['jax', None] == '0.10.2'
    assert not any(name == 'torch' for name, _ in everything)


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
    names = {re.match(r'[\w-]+', entry)[0].lower() for entry in project['dependencies']}  # pyright: ignore
    assert names <= {name for name, _ in pins(ROOT / 'requirements/cpu.txt')}


@pytest.mark.parametrize('path', REQUIREMENTS, ids=lambda path: path.stem)
def test_no_pin_names_a_host_or_a_folder(path):
    assert not re.search(r'://|find-links|index-url|file:|^-|^\.|^/', path.read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize('script', ['launch.sh', '.ci/run', 'requirements/compile.sh'])
def test_scripts_parse_and_can_be_run(script):
    assert os.access(ROOT / script, os.X_OK)
    assert subprocess.run(['bash', '-n', ROOT / script]).returncode == 0
