"""The cluster that the tests of this folder share."""

import os
from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster, missing


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A SLURM of two nodes; see Cluster for what can be done with it."""
    if lacking := missing():
        line = (
            f"no {', '.join(lacking)} here: apt-get install --no-install-recommends "
            "slurm-wlm slurmctld slurmd slurm-client munge"
        )
        demanded = os.environ.get("CI") == "true" or os.environ.get("VOL3D_CLUSTER") == "1"
        (pytest.fail if demanded else pytest.skip)(line)
    made = Cluster()
    made.start()
    try:
        yield made
    finally:
        made.stop()
