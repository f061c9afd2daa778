"""Web servers of this machine: one that gives ranges as it should, with a delay, and ones that do not behave."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

DRIP_SECONDS = 0.2


class Server(ThreadingHTTPServer):
    """Serves the files of a folder, and counts what it is asked for and what it sends."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path, *, delay: float = 0.0, manner: str = "", version: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.delay, self.manner, self.version = folder, delay, manner, version
        self.requests: list[str] = []
        self.sent = 0
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: Any) -> None:
        """Say nothing of a client that has gone."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        with server.lock:
            server.requests.append(f"{self.path} {self.headers.get('Range', '')}")
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            time.sleep(server.delay)
            self._answer()
        finally:
            with server.lock:
                server.at_once -= 1

    def _answer(self) -> None:
        manner, path = self.server.manner, urlsplit(self.path).path
        if manner.startswith("redirect:"):
            return self._say(302, {"Location": manner.removeprefix("redirect:"), "Content-Length": "0"})
        file = self.server.folder / path.lstrip("/")
        if not file.is_file():
            return self._say(404, {"Content-Length": "0"})
        size = file.stat().st_size
        version = self.server.version or f'"{hashlib.sha256(path.encode()).hexdigest()[:16]}"'
        if manner == "changes" and len(self.server.requests) > 1:
            version = f'"{len(self.server.requests)}"'
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")) if manner != "whole" else None
        if wanted and self.headers.get("If-Match", version) != version:
            return self._say(412, {"Content-Length": "0", "ETag": version})
        start, end = (int(wanted[1]), min(int(wanted[2]), size - 1)) if wanted else (0, size - 1)
        headers = {"ETag": version, "Accept-Ranges": "bytes", "Content-Length": str(end - start + 1)}
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{end}/{size}"
        if manner == "short" and len(self.server.requests) > 1:
            end -= (end - start) // 2
        if manner in {"endless", "long"} and len(self.server.requests) > 1:
            del headers["Content-Length"]
            headers["Connection"] = "close"
        if manner == "other-range" and wanted and len(self.server.requests) > 1:
            headers["Content-Range"] = f"bytes {start + 1}-{end + 1}/{size}"
        self._say(206 if wanted else 200, headers)
        if manner == "stall" and len(self.server.requests) > 1:
            self.server.ended.wait(60)
            return None
        with file.open("rb") as source:
            source.seek(start)
            self._send(source.read(end - start + 1))
        return None

    def _send(self, data: bytes) -> None:
        manner, first = self.server.manner, len(self.server.requests) == 1
        if manner == "drip" and not first:
            for place in range(len(data)):
                self.wfile.write(data[place : place + 1])
                self.wfile.flush()
                if self.server.ended.wait(DRIP_SECONDS):
                    return
        self.wfile.write(data)
        self.server.sent += len(data)
        if manner == "long" and not first:
            self.wfile.write(b"x" * 100)
        while manner == "endless" and not first and not self.server.ended.is_set():
            self.wfile.write(b"x" * 65536)
        if manner in {"short", "long", "endless"} and not first:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def _say(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def serve(folder: Path, *, delay: float = 0.0, manner: str = "", version: str = "") -> Iterator[Server]:
    """Run a server."""
    server = Server(folder, delay=delay, manner=manner, version=version)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
