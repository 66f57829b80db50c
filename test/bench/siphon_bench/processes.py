"""Processes that the benchmark starts, and the processor time that any process takes."""

import os
import subprocess
import threading
import time

TICKS = os.sysconf("SC_CLK_TCK")


def processor_time(pid):
    """Seconds of processor time that a process has taken; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(") ", 1)[1].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / TICKS


def waiting_time(pid):
    """Seconds for which threads of a process were ready to run, and had no core to run on."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
            total += int(file.read().split()[1])
    return total / 1e9


class Meter(threading.Thread):
    """Looks at the processor time and memory of some processes now and then: one that ended can't be asked any more."""

    def __init__(self, period=0.02):
        super().__init__(daemon=True)
        self.period = period
        self.pids = {}
        self.start_time = {}
        self.seconds = {}
        self.peak = {}
        self.ended = threading.Event()
        self.start()

    def add(self, name, pid, from_start=True):
        """From here on, or, from its start, of the process `pid`, as `name`."""
        self.start_time[name] = 0 if from_start else processor_time(pid) or 0
        self.pids[name] = pid

    def look(self):
        for name, pid in list(self.pids.items()):
            seconds = processor_time(pid)
            if seconds is not None:
                self.seconds[name] = seconds - self.start_time[name]
                self.peak[name] = max(self.peak.get(name, 0), resident(pid))

    def run(self):
        while not self.ended.wait(self.period):
            self.look()

    def stop(self):
        """Processor seconds by name."""
        self.look()
        self.ended.set()
        self.join()
        return dict(self.seconds)


def resident(pid):
    """MB in memory that are the process's own."""
    try:
        with open(f"/proc/{pid}/status") as file:
            return next((int(line.split()[1]) / 1024 for line in file if line.startswith("RssAnon")), 0)
    except OSError:
        return 0


class Process:
    def __init__(self, log, *command, **options):
        self.log = open(log, "w")
        self.process = subprocess.Popen(list(map(str, command)), stdout=self.log, stderr=self.log,
                                        stdin=subprocess.DEVNULL, **options)
        self.pid = self.process.pid

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
        self.log.close()

    def check(self):
        if self.process.poll() is not None:
            with open(self.log.name) as file:
                raise RuntimeError(f"{self.process.args[0]} ended: {file.read()[-500:]}")


def wait_until(what, condition, timeout=600, pause=0.01, check=()):
    """Waits for the condition, and returns what it returned. Processes in `check` must live on."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        for process in check:
            process.check()
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not after {timeout} s")
        time.sleep(pause)
