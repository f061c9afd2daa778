"""Web servers of this machine: one that gives ranges as it should, with a delay, and ones that do not behave."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

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
        manner, path = self.server.manner, unquote(urlsplit(self.path).path)
        if manner.startswith("redirect:"):
            return self._say(302, {"Location": manner.removeprefix("redirect:"), "Content-Length": "0"})
        file = self.server.folder / path.lstrip("/")
        if not file.is_file():
            return self._say(404, {"Content-Length": "0"})
        size = file.stat().st_size
        changed = file.stat().st_mtime_ns
        version = self.server.version or f'"{hashlib.sha256(f"{path} {changed}".encode()).hexdigest()[:16]}"'
        if manner == "changes" and len(self.server.requests) > 1:
            version = f'"{len(self.server.requests)}"'
        again = len(self.server.requests) > 1
        whole = manner == "whole" or (manner == "ranges-no-more" and again)
        wanted = None if whole else re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted and self.headers.get("If-Match", version) != version:
            return self._say(412, {"Content-Length": "0", "ETag": version})
        start, end = (int(wanted[1]), min(int(wanted[2]), size - 1)) if wanted else (0, size - 1)
        headers = {"ETag": version, "Accept-Ranges": "bytes", "Content-Length": str(end - start + 1)}
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{end}/{size}"
        if again:
            end = self._misstate(headers, start, end, size)
        if manner == "gzip-bomb" and again:
            return self._bomb(206 if wanted else 200, headers)
        if manner == "endless-headers" and again:
            return self._headers_for_ever()
        self._say(206 if wanted else 200, headers)
        if manner == "stall" and len(self.server.requests) > 1:
            self.server.ended.wait(60)
            return None
        with file.open("rb") as source:
            source.seek(start)
            self._send(source.read(end - start + 1))
        return None

    def _misstate(self, headers: dict[str, str], start: int, end: int, size: int) -> int:
        """Change headers as the manner says. Return the last byte that is sent."""
        manner = self.server.manner
        if manner in {"endless", "long"}:
            del headers["Content-Length"]
            headers["Connection"] = "close"
        if manner == "no-content-range":
            headers.pop("Content-Range", None)
        if "Content-Range" in headers and manner == "other-range":
            headers["Content-Range"] = f"bytes {start + 1}-{end + 1}/{size}"
        if "Content-Range" in headers and manner == "other-total":
            headers["Content-Range"] = f"bytes {start}-{end}/{size + 1}"
        return end - (end - start) // 2 if manner == "short" else end

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

    def _bomb(self, status: int, headers: dict[str, str]) -> None:
        """Send a few bytes that unpack to 100 MB."""
        packed = _bomb()
        self._say(status, {**headers, "Content-Encoding": "gzip", "Content-Length": str(len(packed))})
        self.wfile.write(packed)

    def _headers_for_ever(self) -> None:
        self.send_response(206)
        number = 0
        while not self.server.ended.is_set():
            self.wfile.write(b"".join(b"X-%d: %s\r\n" % (number + n, b"x" * 1000) for n in range(64)))
            number += 64

    def _say(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@cache
def _bomb() -> bytes:
    packer = zlib.compressobj(wbits=31)
    return b"".join(packer.compress(bytes(1_000_000)) for _ in range(100)) + packer.flush()


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
