"""Web servers that do what they should, and those that do not: each ends with a clear error, within the limits."""

from __future__ import annotations

import io
import json
import socket
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from helpers.running import bninspect
from helpers.web_server import Server, serve

pytest.importorskip("aiohttp")
pytest.importorskip("fsspec")

import aiohttp

from bninspect import errors
from bninspect.stores import names
from bninspect.stores.remote_file import Found
from bninspect.stores.web import Web

MODEL = "keras3_digits.h5"


def web(server: Server, query: str = "", *, seconds: float = 20, **others: Any) -> Web:
    return Web(names.remote(f"{server.url}/{MODEL}{query}", **others), seconds)


def test_a_file_is_found_and_read_in_parts_several_at_a_time(sample_models: Path) -> None:
    data = (sample_models / MODEL).read_bytes()
    spans = [(0, 10), (100, 1000), (len(data) - 5, 5), *((place, 7) for place in range(2000, 2020))]
    with serve(sample_models, delay=0.05) as server:
        store = web(server)
        found = store.find()
        assert (found.size, found.ranges) == (len(data), True)
        assert found.version
        assert store.parts(found, spans) == [data[start : start + length] for start, length in spans]
        assert 1 < server.most_at_once <= 8
        whole = io.BytesIO()
        store.download(found, whole)
        assert whole.getvalue() == data


@pytest.mark.parametrize(
    ("manner", "kind", "says"),
    [
        ("short", errors.BninspectError, ""),
        ("long", errors.BninspectError, ""),
        ("endless", errors.DamagedFile, "does not send"),
        ("other-range", errors.DamagedFile, "others came"),
        ("changes", errors.DamagedFile, "changed while it was read"),
        ("stall", errors.LimitExceeded, "within 2 s"),
        ("drip", errors.LimitExceeded, "within 2 s"),
        ("gzip-bomb", errors.DamagedFile, "encoded"),
        ("endless-headers", errors.Unreachable, "cannot be fetched"),
    ],
)
def test_a_server_that_does_not_behave(
    manner: str, kind: type[errors.BninspectError], says: str, sample_models: Path
) -> None:
    with serve(sample_models, manner=manner) as server:
        store = web(server, seconds=2)
        found = store.find()
        with pytest.raises(kind) as caught:
            store.parts(found, [(0, 5000)])
        assert says in str(caught.value)
        if manner != "other-range":
            with pytest.raises(kind) as caught:
                store.download(found, io.BytesIO())
            assert says in str(caught.value)


@pytest.mark.parametrize(
    ("manner", "says"),
    [
        ("ranges-no-more", "the server answers 200"),
        ("other-range", "others came"),
        ("other-total", "changed while it was read"),
        ("no-content-range", "others came"),
    ],
)
def test_ranges_that_are_not_those_that_were_asked_for(manner: str, says: str, sample_models: Path) -> None:
    with serve(sample_models, manner=manner) as server:
        store = web(server)
        found = store.find()
        with pytest.raises(errors.BninspectError, match=says):
            store.parts(found, [(0, 5000), (9000, 10)])


@pytest.mark.parametrize("manner", ["endless", "gzip-bomb", "endless-headers"])
def test_what_a_server_sends_too_much_of_takes_no_memory(manner: str, sample_models: Path) -> None:
    with serve(sample_models, manner=manner) as server:
        store = web(server, seconds=2)
        found = store.find()
        tracemalloc.start()
        try:
            for ask in (lambda: store.parts(found, [(0, 5000)]), lambda: store.download(found, io.BytesIO())):
                with pytest.raises(errors.BninspectError):
                    ask()
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert most < 20_000_000


class Rebinding(aiohttp.ThreadedResolver):
    """Answers each question about a name with the next address."""

    answers: list[str]

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> Any:
        address = self.answers.pop(0)
        return [{"hostname": host, "host": address, "port": port, "family": socket.AF_INET, "proto": 6, "flags": 0}]


@pytest.mark.parametrize("bad", ["127.0.0.1", "169.254.169.254"])
def test_a_name_that_leads_elsewhere_from_the_second_question_on(
    bad: str, sample_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is checked is the very address that is connected to: there is no second question in between."""
    monkeypatch.setattr(aiohttp, "ThreadedResolver", Rebinding)
    with serve(sample_models) as server:
        place = f"http://rebind.example:{server.server_port}/{MODEL}"
        Rebinding.answers = ["127.0.0.1", bad]
        store = Web(names.remote(place, allowed=("rebind.example",)), 5)  # which shows that its answer is connected to
        assert store.find().size
        assert Rebinding.answers == [bad]
        asked = len(server.requests)
        typed, listed = (Web(names.remote(place, listed=listed), 5) for listed in (False, True))
        for target in (typed, listed):
            Rebinding.answers = [bad, bad]
            with pytest.raises(errors.UnsafeFile, match=bad):
                target.find()
        # Public when it is found, and here when its parts are asked for: 192.0.2.1 is nobody's (RFC 5737).
        Rebinding.answers = ["192.0.2.1", bad, bad]
        with pytest.raises((errors.Unreachable, errors.LimitExceeded)):
            Web(names.remote(place), 1).find()
        with pytest.raises(errors.UnsafeFile, match=bad):
            typed.parts(Found(1000, None), [(0, 10), (500, 10)])
        assert len(server.requests) == asked


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("http://127.0.0.1:9/x.h5", "another host or port"),
        ("http://localhost/x.h5", "another host or port"),
        ("http://example.com/x.h5?token=SECRET", "another host or port"),
        ("file:///etc/passwd", "redirects to file:///etc/passwd"),
        ("s3://bucket/x.h5", "redirects to s3://bucket/x.h5"),
        ("//169.254.169.254/latest", "another host or port"),
        ("/elsewhere", "more than 5 redirects"),
    ],
)
def test_redirects_do_not_lead_elsewhere(location: str, why: str, sample_models: Path) -> None:
    with serve(sample_models, manner=f"redirect:{location}") as server, pytest.raises(errors.UnsafeFile) as caught:
        web(server).find()
    assert why in caught.value.why
    assert "SECRET" not in str(caught.value) + caught.value.hint


def test_a_redirect_to_loopback_needs_that_very_host_allowed(sample_models: Path) -> None:
    with serve(sample_models) as inner, serve(sample_models, manner=f"redirect:{inner.url}/{MODEL}") as outer:
        assert web(outer, allowed=("127.0.0.1",)).find().size == (sample_models / MODEL).stat().st_size
        with pytest.raises(errors.UnsafeFile):
            web(outer, allowed=("example.com",)).find()


def test_what_is_configured_for_a_host_is_not_sent_to_another(
    sample_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    monkeypatch.setitem(fsspec.config.conf, "http", {"headers": {"Authorization": "Bearer SECRET"}})
    seen: dict[str, list[str | None]] = {"inner": [], "outer": []}

    def noting(server: Server, name: str) -> None:
        handler = server.RequestHandlerClass

        class Noting(handler):  # type: ignore[misc, valid-type]
            def do_GET(self) -> None:  # noqa: N802 - as http.server calls it
                seen[name].append(self.headers.get("Authorization"))
                super().do_GET()

        server.RequestHandlerClass = Noting

    with serve(sample_models) as inner:
        moved = f"http://localhost:{inner.server_port}/{MODEL}"
        with serve(sample_models, manner=f"redirect:{moved}") as outer:
            noting(inner, "inner")
            noting(outer, "outer")
            web(outer, allowed=("localhost",)).find()
    assert seen == {"inner": [None], "outer": ["Bearer SECRET"]}


def test_a_list_does_not_lead_to_this_machine(sample_models: Path, tmp_path: Path) -> None:
    with serve(sample_models) as server:
        url = f"{server.url}/{MODEL}"
        (tmp_path / "list.txt").write_text(f"{url}\n")
        refused = bninspect("lint", "--json", "--files-from", "list.txt", cwd=tmp_path)
        assert refused.returncode == 3
        error = json.loads(refused.stdout)["models"][0]["error"]
        assert (error["kind"], error["hint"]) == ("UnsafeFile", "if that is meant: --allow-host 127.0.0.1")
        assert server.requests == []
        for arguments in (["--files-from", "list.txt", "--allow-host", "127.0.0.1"], [url]):
            assert bninspect("lint", *arguments, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("line", ["/etc/passwd", "models/a.h5", "file:///etc/passwd"])
def test_a_list_from_elsewhere_names_no_file_of_this_machine(line: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{line}\n")
    with serve(tmp_path) as server:
        done = bninspect("lint", "--files-from", f"{server.url}/list.txt?token=SECRET")
    assert done.returncode == 3
    assert "a list" in done.stderr
    assert "SECRET" not in done.stderr + done.stdout


def test_no_secret_of_a_url_is_in_any_report(sample_models: Path, tmp_path: Path) -> None:
    forms = ("json", "jsonl", "junit", "markdown", "github", "html", "sarif", "text")
    targets = [word for form in forms for word in ("-o", f"{form}={tmp_path / form}")]
    with serve(sample_models) as server:
        host = server.url.removeprefix("http://")
        models = [f"http://user:SECRET@{host}/{name}?sig=SECRET#SECRET" for name in (MODEL, "missing.h5")]
        done = bninspect("lint", "-vv", *models, *targets, "--resume", tmp_path / "resume", cwd=tmp_path)
    assert done.returncode == 3
    written = [path.read_text() for path in tmp_path.iterdir()]
    assert len(written) == len(forms) + 1
    assert not [text for text in [*written, done.stdout, done.stderr] if "SECRET" in text or "user:" in text]
    assert f"http://{host}/{MODEL}" in done.stdout


def test_the_bytes_that_are_read_and_the_version_are_in_the_report(sample_models: Path) -> None:
    with serve(sample_models) as server:
        done = bninspect("inspect", "--json", f"{server.url}/{MODEL}")
        sent = server.sent
    model = json.loads(done.stdout)["models"][0]
    assert model["sha256"] is None
    assert model["bytes"] == (sample_models / MODEL).stat().st_size
    assert model["bytes_read"] == sent - 1  # and the byte by which it was found
    assert model["version"] == Found(0, model["version"]).version
    here = json.loads(bninspect("inspect", "--json", sample_models / MODEL).stdout)["models"][0]
    assert model["layers"] == here["layers"]


def test_a_server_without_ranges_gives_the_whole_file(sample_models: Path) -> None:
    with serve(sample_models, manner="whole") as server:
        done = bninspect("inspect", "--json", f"{server.url}/{MODEL}")
    here = json.loads(bninspect("inspect", "--json", sample_models / MODEL).stdout)["models"][0]
    model = json.loads(done.stdout)["models"][0]
    assert (model["sha256"], model["layers"]) == (here["sha256"], here["layers"])
    assert model["path"].startswith("http://")


def test_export_and_diff_read_parts(sample_models: Path, tmp_path: Path) -> None:
    with serve(sample_models) as server:
        url = f"{server.url}/{MODEL}"
        assert bninspect("export", url, "-f", "npz", "-o", "a.npz", cwd=tmp_path).returncode == 0
        assert bninspect("diff", url, sample_models / MODEL).returncode == 0
        damaged = bninspect("export", f"{server.url}/broken_bit.keras?sig=SECRET", "-f", "npz", cwd=tmp_path)
    assert (damaged.returncode, "SECRET" in damaged.stderr) == (3, False) or damaged.returncode == 0
    assert (tmp_path / "a.npz").is_file()
