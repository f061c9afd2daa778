"""A real nginx over a folder, on this machine or behind a network of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

_CONFIGURATION = """
daemon off; master_process off; user {user}; pid {folder}/pid; error_log {folder}/errors;
events {{}}
http {{
    access_log {folder}/requests;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{ listen {address}:{port}; root {root}; }}
}}
"""


def require() -> str:
    """Return the path of nginx; skip the test where it is not installed."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    return program


@contextmanager
def serving(root: Path, folder: Path, address: str = "127.0.0.1", inside: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the URL of an nginx that serves `root` and keeps its own files in `folder`.

    Args:
        root: the folder that it serves.
        folder: an empty one.
        address: where it listens.
        inside: the beginning of a command line that runs the rest of it in another network.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    text = _CONFIGURATION.format(folder=folder, root=root, address=address, port=port, user=getpass.getuser())
    (folder / "nginx.conf").write_text(text)
    command = [*inside, require(), "-c", str(folder / "nginx.conf"), "-e", str(folder / "errors")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(400):
                if server.poll() is not None:
                    pytest.skip(f"nginx does not start: {(folder / 'errors').read_text()[-300:]}")
                try:
                    socket.create_connection((address, port), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield f"http://{address}:{port}"
        finally:
            server.terminate()


@contextmanager
def network() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield an address in a network of its own, joined to this one by a cable, and what runs a program there."""
    ip = shutil.which("ip") or shutil.which("ip", path="/usr/sbin")
    if ip is None or os.geteuid() != 0:
        pytest.skip("networks of our own need `ip` and root")
    unique = uuid.uuid4()
    name = f"b{unique.hex[:8]}"
    block = f"198.18.{unique.bytes[4]}"  # set aside for tests of networks: RFC 2544
    steps = (
        f"netns add {name}",
        f"link add {name}h type veth peer name {name}n",
        f"link set {name}n netns {name}",
        f"addr add {block}.1/30 dev {name}h",
        f"link set {name}h up",
        f"-n {name} addr add {block}.2/30 dev {name}n",
        f"-n {name} link set {name}n up",
    )
    with ExitStack() as undone:
        undone.callback(subprocess.run, [ip, "netns", "del", name], check=False, capture_output=True)
        for step in steps:
            done = subprocess.run([ip, *step.split()], check=False, capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"this machine allows no network of our own: {done.stderr.strip()[-200:]}")
        yield f"{block}.2", (ip, "netns", "exec", name)
