"""A run stops at the end of a step, and every process at the same one."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mim_jax.training.interruption import Interruption

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_only_asks(number):
    with Interruption() as interruption:
        assert not interruption.requested(1) and interruption.signal_name == ""
        signal.raise_signal(number)
        assert interruption.requested(2) and interruption.requested(3)
        assert interruption.signal_name == number.name


def test_a_second_interrupt_stops_at_once():
    with pytest.raises(KeyboardInterrupt), Interruption():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_a_second_sigterm_still_only_asks():
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert interruption.requested(1)


def test_handlers_are_restored_also_after_an_error():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), Interruption():
        assert signal.getsignal(signal.SIGINT) != before[0]
        raise ZeroDivisionError
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_outside_the_main_thread_it_leaves_signals_alone():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with Interruption() as interruption:
            seen.append((signal.getsignal(signal.SIGTERM) == before, interruption.requested(1)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(True, False)]


def start(address, process):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.training.interruption_process", address, str(process)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_of_two_processes_stops_both_at_the_same_step(number):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = [start(address, 0), start(address, 1)]
    for process in processes:
        assert process.stdout.readline() == "running\n"
    processes[1].send_signal(number)
    ends = [process.communicate(timeout=60)[0].splitlines()[-1].split() for process in processes]
    (_, name_0, step_0, after_0), (_, name_1, step_1, after_1) = ends
    assert step_0 == step_1 and after_0 == after_1 == "True"
    assert (name_0, name_1) == ("SIGTERM", number.name)
    assert [process.returncode for process in processes] == [0, 0]
