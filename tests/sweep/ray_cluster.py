"""A Ray cluster on this machine's loopback, of a head and two nodes; a line on stdin and one of these is lost."""

import os
import signal
import sys
from pathlib import Path

from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

CPUS = 2  # of a node; the head has none


def descendants(pid):
    children = [
        int(child) for path in Path(f'/proc/{pid}/task').glob('*/children') for child in path.read_text().split()
    ]
    return [*children, *(each for child in children for each in descendants(child))]


def lose(cluster, node):
    """As when its machine dies: all its processes at once, with the runs that they carry out."""
    raylet = node.all_processes['raylet'][0].process.pid
    for pid in (raylet, *descendants(raylet)):
        os.kill(pid, signal.SIGKILL)
    cluster.remove_node(node, allow_graceful=False)


if __name__ == '__main__':
    cluster = Cluster()
    cluster.add_node(num_cpus=0, include_dashboard=False)
    nodes = [cluster.add_node(num_cpus=CPUS) for _ in range(2)]
    print(cluster.address, flush=True)
    for _ in sys.stdin:
        lose(cluster, nodes.pop())
    cluster.shutdown()
