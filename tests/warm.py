"""`simgan` from a process that has imported torch already: real shells run real commands, without seconds of start.

A server (`python -m tests.warm SOCKET`) waits on a socket; a small program called `simgan` hands it its arguments,
folder, environment, and its own stdin, stdout and stderr. For each the server forks a process, which runs the same
`main` as the installed program does.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

HEAVY = (
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "simgan_cli.cli.app",
    "simgan_cli.engine.folders",
    "simgan_cli.engine.inspection",
    "simgan_cli.engine.training",
    "simgan_cli.gaze.evaluation",
    "torch._dynamo",  # which optimizers import
)
LARGEST = 1_000_000  # bytes of a request
CLIENT = """#!{python} -IS
import json, os, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
request = {{"arguments": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}
socket.send_fds(connection, [json.dumps(request).encode() + bytes(1)], [0, 1, 2])
sys.exit(int(connection.recv(9) or b"1"))
"""


@contextmanager
def warm_simgan(folder: Path) -> Iterator[Path]:
    """Write the program `simgan` into `folder`, to be put first in PATH, and serve it."""
    address = folder / "socket"
    program = folder / "simgan"
    program.write_text(CLIENT.format(python=sys.executable, address=str(address)))
    program.chmod(0o755)
    command = [sys.executable, "-m", "tests.warm", str(address)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        try:
            yield program
        finally:
            server.terminate()


def serve(address: str) -> None:
    """Run requests, each in a process of its own, until terminated."""
    for module in HEAVY:
        import_module(module)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    while True:
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
    serve(sys.argv[1])
