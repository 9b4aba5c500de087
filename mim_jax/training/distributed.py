"""Joining the other processes of a run."""

import jax

from mim_jax.errors import InputError

INITIALIZATION_TIMEOUT = 1800
"""Seconds to wait for the other processes; a pod that starts cold takes longer than JAX's default."""


def join(*, cluster: bool, coordinator: str = "", processes: int = 1, process: int = 0) -> None:
    """Joins a run of many processes: found by JAX from the `cluster`, or by the address of a `coordinator`.

    Does nothing if neither is given. Raises InputError if the numbers do not fit.
    """
    if coordinator:
        if not 0 <= process < processes:
            raise InputError(f"there is no process {process} among {processes}; --process counts from 0")
        jax.distributed.initialize(coordinator, processes, process, initialization_timeout=INITIALIZATION_TIMEOUT)
    elif cluster:
        jax.distributed.initialize(initialization_timeout=INITIALIZATION_TIMEOUT)
