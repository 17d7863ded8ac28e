"""Run `simgan` from a process that has already imported torch, so that real commands start at once.

A server (`python -m tests.simgan_server`) waits on a socket. Small programs called `simgan`, `torchrun` and `python`
hand it their arguments, folder, environment, limit on files, stdin, stdout and stderr. For each the server forks a
process, which runs the module or script that Python would. Signals to a program reach its process, which dies with it.
"""

import json
import os
import resource
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector

import torch

HEAVY = (
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "simgan_cli.cli.app",
    "simgan_cli.engine.refining.job",
    "simgan_cli.engine.metrics.buffer_inspection",
    "simgan_cli.engine.training.build",
    "simgan_cli.gaze.evaluation",
    "torch._dynamo",  # which optimizers import
    "torch.distributed.launcher.api",
    "torch.distributed.nn",
)
ENVIRONMENT = {"NO_COLOR": "1", "COLUMNS": "200"}  # variables that some modules read when they are imported
SERVER = ExitStack()  # closing it ends the server
SHARED = "WARM_SIMGAN"  # the program of a server that several processes of tests share
LARGEST = 1_000_000  # bytes of a request
PROGRAMS = {"bin/simgan": ["-m", "simgan_cli"], "bin/torchrun": ["-m", "torch.distributed.run"], "python": []}
CLIENT = """#!{python} -IS
import json, os, resource, signal, socket, sys

def forward(number, frame):
    try:
        os.kill(process, number)
    except ProcessLookupError:
        pass

connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
request = {{
    "arguments": {arguments!r} + sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ),
    "file_limit": resource.getrlimit(resource.RLIMIT_FSIZE)[0],
}}
socket.send_fds(connection, [json.dumps(request).encode() + bytes(1)], [0, 1, 2])
process = int(connection.recv(9))
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, forward)
code = connection.recv(9)
connection.recv(1) # until the process is gone
sys.exit(int(code or b"1"))
"""


@cache
def warm_simgan() -> Path:
    """Start the server, unless one is shared; return its program, whose folder goes into PATH.

    Where coverage is measured, so is what the server runs.
    """
    if SHARED in os.environ:
        return Path(os.environ[SHARED])
    coverage = sys.modules.get("coverage")
    measured = ["-m", "coverage", "run", "--parallel-mode"] if coverage and coverage.Coverage.current() else []
    server = SERVER.enter_context(
        subprocess.Popen(
            [sys.executable, *measured, "-m", "tests.simgan_server"],
            cwd=Path(__file__).parents[1], env=os.environ | ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )
    )  # fmt: skip
    assert server.stdout is not None
    return Path(server.stdout.readline().rstrip())


def serve(folder: Path) -> None:
    """Write the programs into `folder` and run their requests, each in its own process, until stdin is closed."""
    for module in HEAVY:
        import_module(module)
    address = str(folder / "socket")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    (folder / "bin").mkdir()
    for name, arguments in PROGRAMS.items():
        (folder / name).write_text(CLIENT.format(python=sys.executable, address=address, arguments=arguments))
        (folder / name).chmod(0o755)
    sys.stdout.write(f"{folder / 'bin' / 'simgan'}\n")
    sys.stdout.flush()
    signal.signal(signal.SIGCHLD, _reap)
    selector = DefaultSelector()
    selector.register(listener, EVENT_READ)
    selector.register(sys.stdin, EVENT_READ)
    while [key.fileobj for key, _ in selector.select()] == [listener]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may be under nohup
            sys.executable = str(folder / "python")  # for the processes that this one starts
            _run(connection)
        connection.close()


def _reap(*_: object) -> None:
    """Wait for all processes that have ended, whose time then counts as that of the tests."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _run(connection: socket.socket) -> None:
    """Be Python for the program at the other end; does not return."""
    content, descriptors, _, _ = socket.recv_fds(connection, LARGEST, 3)
    while not content.endswith(b"\0"):
        content += connection.recv(LARGEST)
    request = json.loads(content[:-1])
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    if threads := os.environ.get("OMP_NUM_THREADS"):  # which torch reads when it is imported
        torch.set_num_threads(int(threads))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    connection.sendall(b"%9d" % os.getpid())
    threading.Thread(target=_die_with, args=(connection,), daemon=True).start()
    code: object = 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_limit"], hard))
    try:
        _run_python(request["arguments"])
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:  # what the interpreter would print
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))  # coverage writes files, too
    connection.sendall(str(code if isinstance(code, int) else int(bool(code))).encode())
    _leave()


def _leave() -> None:
    """End this process without the second that it takes to free what torch holds."""
    if coverage := sys.modules.get("coverage"):
        coverage.Coverage.current().save()
    os._exit(0)


def _die_with(connection: socket.socket) -> None:
    """Kill this process once the program at the other end is gone, which waits for it."""
    connection.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)


def _run_python(arguments: list[str]) -> None:
    """Do what `python [-u] -m MODULE ...` or `python SCRIPT ...` would."""
    if arguments[0] == "-u":
        arguments = arguments[1:]
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        serve(Path(folder))
    _leave()
