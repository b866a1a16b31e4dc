"""Where a process is, as flags, variables or a cluster tell it, and what Kubernetes is told."""

import re
from pathlib import Path

import pytest
import yaml

from resnet_jax.errors import UserError
from resnet_jax.runtime import cluster
from resnet_jax.runtime.cluster import Place, place

ROOT = Path(__file__).parents[2]
ALONE = {'JAX_PLATFORMS': 'cpu'}
TOLD = ALONE | {
    'RESNET_JAX_COORDINATOR': 'first:1234', 'RESNET_JAX_PROCESSES': '4', 'RESNET_JAX_PROCESS': '0',
}  # fmt: skip
SLURM = ALONE | {
    'SLURM_JOB_ID': '7', 'SLURM_STEP_ID': '0', 'SLURM_NTASKS': '2', 'SLURM_PROCID': '1', 'SLURM_LOCALID': '1',
    'SLURM_STEP_NODELIST': 'node1', 'SLURM_STEP_NUM_NODES': '1', 'SLURM_TASKS_PER_NODE': '2',
}  # fmt: skip


def on_gpus(count, tasks, **more):
    """The environment of the last of so many tasks on one of two machines with so many GPUs."""
    return SLURM | {
        'JAX_PLATFORMS': 'cuda', 'CUDA_VISIBLE_DEVICES': ','.join(map(str, range(count))),
        'SLURM_STEP_NUM_NODES': '2', 'SLURM_STEP_NODELIST': 'node[1-2]', 'SLURM_NTASKS': str(2 * tasks),
        'SLURM_TASKS_PER_NODE': f'{tasks}(x2)', 'SLURM_PROCID': str(2 * tasks - 1), 'SLURM_LOCALID': str(tasks - 1),
    } | more  # fmt: skip


@pytest.mark.parametrize(
    'environ',
    [
        ALONE,
        SLURM | {'SLURM_NTASKS': '1'},
        {key: value for key, value in SLURM.items() if key != 'SLURM_STEP_NODELIST'},  # the batch script itself
        ALONE | {'OMPI_COMM_WORLD_SIZE': '1'},
    ],
    ids=['nothing', 'one task', 'a batch script', 'one rank'],
)
def test_where_nothing_tells_of_others_a_process_is_alone(environ):
    assert place(environ) is None


def test_flags_come_before_variables_and_variables_before_a_cluster():
    assert place(ALONE, 'first:1234', 4, 3) == Place('first:1234', 4, 3)
    assert place(SLURM | TOLD) == Place('first:1234', 4, 0)
    assert place(TOLD, 'other:99', 2, 1) == Place('other:99', 2, 1)
    assert place(TOLD, process=3) == Place('first:1234', 4, 3)


@pytest.mark.parametrize(
    ('coordinator', 'bind'),
    [
        ('localhost:99', '127.0.0.1:99'),
        ('127.0.0.1:99', '127.0.0.1:99'),
        ('[::1]:99', '127.0.0.1:99'),
        ('first:99', None),
        (None, None),
    ],
)
def test_where_all_are_on_one_machine_the_coordinator_listens_to_no_other(coordinator, bind):
    assert Place(coordinator, 2, 0).bind == bind


def test_the_tasks_of_one_node_meet_on_loopback_at_a_port_of_their_job_and_step():
    one, other = place(SLURM), place(SLURM | {'SLURM_PROCID': '0', 'SLURM_LOCALID': '0'})
    assert one is not None and other is not None
    assert (one.processes, one.process, other.process, one.devices) == (2, 1, 0, None)
    assert one.coordinator == other.coordinator
    ports = {
        place(SLURM | {'SLURM_JOB_ID': str(job), 'SLURM_STEP_ID': str(step)}).coordinator  # pyright: ignore
        for job in range(1000, 1050)
        for step in range(17)
    }
    assert len(ports) == 50 * 17
    assert all(re.fullmatch(r'127\.0\.0\.1:\d+', port) for port in ports)
    numbers = [int(port.rpartition(':')[2]) for port in ports]  # pyright: ignore
    assert cluster.PORTS[0] <= min(numbers) and max(numbers) <= cluster.PORTS[1]


def test_on_several_nodes_jax_finds_the_coordinator():
    assert place(on_gpus(0, 1)) == Place(None, 2, 1)


@pytest.mark.parametrize(
    ('environ', 'devices'),
    [
        (on_gpus(8, 1), tuple(range(8))),
        (on_gpus(8, 2), (4, 5, 6, 7)),
        (on_gpus(8, 2, SLURM_LOCALID='0'), (0, 1, 2, 3)),
        (on_gpus(8, 8), (7,)),
        (on_gpus(4, 2, SLURM_GPUS_PER_TASK='4'), (0, 1, 2, 3)),
        (on_gpus(1, 8), (0,)),  # SLURM shows each task its own
        (on_gpus(8, 2) | ALONE, None),
    ],
    ids=['one task has all', 'two share', 'the first of two', 'one each', 'by task', 'its own', 'on the CPU'],
)
def test_the_tasks_of_a_machine_have_equal_shares_of_its_gpus(environ, devices):
    found = place(environ)
    assert found is not None and found.devices == devices


@pytest.mark.parametrize(
    ('visible', 'count'), [('0', 1), ('2,3,5', 3), ('GPU-1a2b,GPU-3c4d', 2), ('', 0), ('-1', 0), ('NoDevFiles', 0)]
)
def test_gpus_are_those_that_are_visible(visible, count):
    assert cluster.gpus({'CUDA_VISIBLE_DEVICES': visible}) == count
    assert cluster.gpus({'CUDA_VISIBLE_DEVICES': visible, 'RESNET_JAX_PLATFORM': 'cpu'}) == 0


@pytest.mark.parametrize(
    'environ',
    [{'OMPI_COMM_WORLD_SIZE': '2'}, {'TPU_WORKER_HOSTNAMES': 'a,b'}, {'RESNET_JAX_PLATFORM': 'tpu'}],
    ids=['Open MPI', 'TPU pod', 'TPU'],
)
def test_where_jax_finds_everything_itself_it_is_told_nothing(environ):
    assert place(environ) == Place()


def test_a_tpus_host_whose_cpu_is_taken_is_none():
    pod = {'TPU_WORKER_HOSTNAMES': 'a,b', 'RESNET_JAX_PLATFORM': 'tpu'}
    assert cluster.tpu(pod) and not cluster.tpu({}) and not cluster.tpu({'RESNET_JAX_PLATFORM': 'cuda'})
    for environ in (pod | ALONE, pod | {'RESNET_JAX_PLATFORM': 'cpu'}):
        assert not cluster.tpu(environ) and place(environ) is None


@pytest.mark.parametrize(
    ('environ', 'flags', 'says'),
    [
        (ALONE, ('first:1234', 0, -1), '--coordinator HOST:PORT, --processes N and --process I go together'),
        (ALONE, ('', 2, 0), 'go together'),
        (ALONE, ('first:1234', 2, -1), 'go together'),
        (ALONE, ('first:1234', -2, 0), 'go together'),
        (ALONE, ('first', 2, 0), "--coordinator is 'first'; it must be HOST:PORT"),
        (ALONE, ('first:0', 2, 0), "--coordinator is 'first:0'; it must be HOST:PORT"),
        (ALONE, ('first:65536', 2, 0), "--coordinator is 'first:65536'; it must be HOST:PORT"),
        (ALONE, ('first:1234', 2, 2), '--process is 2; of 2 processes it must be from 0 to 1'),
        (TOLD | {'RESNET_JAX_PROCESSES': 'two'}, (), "RESNET_JAX_PROCESSES is 'two'; it must be a number"),
        (TOLD | {'RESNET_JAX_PROCESS': ''}, (), "RESNET_JAX_PROCESS is ''; it must be a number"),
        (on_gpus(8, 3), (), '3 tasks share the 8 GPUs of this machine; give it 1 task, or as many as divide them'),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(environ, flags, says):
    with pytest.raises(UserError) as error:
        place(environ, *flags)
    assert says in str(error.value) and '\n' not in str(error.value)


# ---- cluster/jobset.yaml


@pytest.fixture(scope='module')
def jobset():
    [found] = yaml.safe_load_all((ROOT / 'cluster' / 'jobset.yaml').read_text())
    return found


def test_kubernetes_tells_each_pod_where_it_is_by_the_names_that_are_read(jobset):
    assert (jobset['apiVersion'], jobset['kind']) == ('jobset.x-k8s.io/v1alpha2', 'JobSet')
    [job] = jobset['spec']['replicatedJobs']
    spec = job['template']['spec']
    [container] = spec['template']['spec']['containers']
    told = {each['name']: each for each in container['env']}
    assert {name for name in told if name.startswith('RESNET_JAX_')} == set(TOLD) - set(ALONE)
    # A pod's name within the headless service of its JobSet: JOBSET-REPLICATEDJOB-JOB-INDEX.SERVICE
    name = jobset['metadata']['name']
    host, _, _ = told['RESNET_JAX_COORDINATOR']['value'].rpartition(':')
    assert host == f'{name}-{job["name"]}-0-0.{name}'
    index = told['RESNET_JAX_PROCESS']['valueFrom']['fieldRef']['fieldPath']
    assert index == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert spec['completionMode'] == 'Indexed' and job['replicas'] == 1
    assert spec['parallelism'] == spec['completions'] == int(told['RESNET_JAX_PROCESSES']['value'])
    given = {key: each.get('value', '0') for key, each in told.items()}
    processes = int(given['RESNET_JAX_PROCESSES'])
    assert place(given) == Place(f'{host}:{given["RESNET_JAX_COORDINATOR"].rpartition(":")[2]}', processes, 0)


def test_kubernetes_starts_all_pods_again_from_the_checkpoint_and_gives_them_time_to_save(jobset):
    [job] = jobset['spec']['replicatedJobs']
    pod = job['template']['spec']['template']['spec']
    assert jobset['spec']['failurePolicy']['maxRestarts'] > 0
    assert job['template']['spec']['backoffLimit'] == 0  # a pod alone would find no others: all start again
    assert pod['restartPolicy'] == 'Never' and pod['terminationGracePeriodSeconds'] >= 60
    [container] = pod['containers']
    shared = {volume['name'] for volume in pod['volumes'] if 'persistentVolumeClaim' in volume}
    mounted = {mount['mountPath'] for mount in container['volumeMounts'] if mount['name'] in shared}
    line = container['command']
    assert line[:2] == ['./launch.sh', 'train'] and any(line[line.index('--run') + 1].startswith(at) for at in mounted)
