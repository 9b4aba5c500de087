"""Run as a script: takes steps until it is interrupted, and prints by which signal, at which step."""

import sys
import time

import jax

from mim_jax.training.interruption import Interruption


def main(address, process):
    if address:
        jax.distributed.initialize(address, 2, process)
    with Interruption() as interruption:
        for step in range(100_000):
            time.sleep(0.003 * (1 + process))
            if step == 5:
                print("running", flush=True)
            if interruption.requested(step):
                break
    print("stopped", interruption.signal_name, step, interruption.requested(step + 1), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
