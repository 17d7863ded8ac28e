"""`simgan` from a process that has imported torch already: real shells run real commands, without seconds of start.

A server (`python -m tests.simgan_server`) waits on a socket. A small program called `simgan` hands it its arguments,
folder, environment, stdin, stdout and stderr. For each the server forks a process, which runs the same `main` as the
installed program does. It ends with the process that started it.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from functools import cache
from importlib import import_module
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector

HEAVY = (
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "simgan_cli.cli.app",
    "simgan_cli.engine.refining.job",
    "simgan_cli.engine.metrics.history_buffer",
    "simgan_cli.engine.training.build",
    "simgan_cli.gaze.evaluation",
    "torch._dynamo",  # which optimizers import
)
ENVIRONMENT = {"NO_COLOR": "1", "COLUMNS": "200"}  # what some read when they are imported
SERVER = ExitStack()  # what ends it
LARGEST = 1_000_000  # bytes of a request
CLIENT = """#!{python} -IS
import json, os, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
request = {{"arguments": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}
socket.send_fds(connection, [json.dumps(request).encode() + bytes(1)], [0, 1, 2])
sys.exit(int(connection.recv(9) or b"1"))
"""


@cache
def warm_simgan() -> Path:
    """Start the server, once for all tests of this process; return its program, whose folder goes into PATH."""
    server = SERVER.enter_context(
        subprocess.Popen(
            [sys.executable, "-m", "tests.simgan_server"],
            cwd=Path(__file__).parents[1], env=os.environ | ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )
    )  # fmt: skip
    assert server.stdout is not None
    return Path(server.stdout.readline().rstrip())


def serve(folder: Path) -> None:
    """Write the program into `folder` and run its requests, each in a process of its own, until stdin is closed."""
    for module in HEAVY:
        import_module(module)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "socket"))
    listener.listen()
    program = folder / "simgan"
    program.write_text(CLIENT.format(python=sys.executable, address=str(folder / "socket")))
    program.chmod(0o755)
    sys.stdout.write(f"{program}\n")
    sys.stdout.flush()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    selector = DefaultSelector()
    selector.register(listener, EVENT_READ)
    selector.register(sys.stdin, EVENT_READ)
    while [key.fileobj for key, _ in selector.select()] == [listener]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _run(connection)
        connection.close()


def _run(connection: socket.socket) -> None:
    """Be `simgan` for the program at the other end; does not return."""
    content, descriptors, _, _ = socket.recv_fds(connection, LARGEST, 3)
    while not content.endswith(b"\0"):
        content += connection.recv(LARGEST)
    request = json.loads(content[:-1])
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    if "PID_FILE" in os.environ:  # for tests that kill it
        Path(os.environ["PID_FILE"]).write_text(str(os.getpid()))
    sys.argv = ["simgan", *request["arguments"]]

    from simgan_cli.cli.app import main

    code: object = 1
    try:
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:  # what the interpreter would print
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(str(code if isinstance(code, int) else int(bool(code))).encode())
    os._exit(0)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        serve(Path(folder))
