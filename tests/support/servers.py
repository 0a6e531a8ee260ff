"""Real servers, each in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import httpx

import async_parallel

SUPPORT = Path(__file__).parent
# The package that is tested, wherever it is installed.
PYTHONPATH = os.pathsep.join(
    [str(SUPPORT), str(Path(async_parallel.__file__).parents[1])]
)
SCRIPTS = Path(sysconfig.get_path("scripts"))

ASGI = {
    "uvicorn": ["-m", "uvicorn", "--port={port}", "--log-level=warning", "served:asgi"],
    "hypercorn": ["-m", "hypercorn", "--bind=127.0.0.1:{port}", "served:asgi"],
    "granian": ["-m", "granian", "--interface=asgi", "--port={port}", "served:asgi"],
}
_UVICORN = ["-m", "uvicorn", "--port={port}", "--log-level=warning", "adapted:asgi"]
_HYPERCORN = ["-m", "hypercorn", "--bind=127.0.0.1:{port}", "adapted:asgi"]
ADAPTED = {
    **{
        f"uvicorn {http} {loop}": [*_UVICORN, f"--http={http}", f"--loop={loop}"]
        for http in ("h11", "httptools")
        for loop in ("asyncio", "uvloop")
    },
    "hypercorn": _HYPERCORN,
    "hypercorn HTTP/2": _HYPERCORN,
    "granian": ["-m", "granian", "--interface=asgi", "--port={port}", "adapted:asgi"],
}
WSGI = {
    "flask run": ["-m", "flask", "--app=served:app", "run", "--port={port}"],
    "gunicorn sync": ["-m", "gunicorn", "--bind=127.0.0.1:{port}", "served:app"],
    "gunicorn gthread": [
        *["-m", "gunicorn", "--bind=127.0.0.1:{port}", "--threads=8", "served:app"],
    ],
    "gunicorn gthread --preload": [
        *["-m", "gunicorn", "--bind=127.0.0.1:{port}", "--threads=8"],
        *["--workers=2", "--preload", "served:app"],
    ],
    "uwsgi": [
        *["{scripts}/pyuwsgi", "--http-socket=127.0.0.1:{port}", "--module=served:app"],
        *["--master", "--processes=2", "--threads=8", "--enable-threads"],
        *["--die-on-term", "--need-app"],
    ],
}


class Server:
    """A server process of ours, and a client for it."""

    def __init__(
        self, command: list[str], database: str, log: Path, *, http2: bool = False
    ) -> None:
        self.port = free_port()
        filled = [part.format(port=self.port, scripts=SCRIPTS) for part in command]
        if filled[0].startswith("-"):
            filled.insert(0, sys.executable)
        self._log = log
        self.http2 = http2
        environment = {
            **os.environ,
            "TEST_DATABASE": database,
            "PYTHONPATH": PYTHONPATH,
            "PYTHONWARNINGS": "default",
        }
        environment.pop("PYTHONSAFEPATH", None)
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                filled, env=environment, stdout=output, stderr=output, cwd=SUPPORT
            )
        self.client = connect(self.port, http2=http2)

    @property
    def log(self) -> str:
        """What the server has printed."""
        return self._log.read_text()

    def wait_until_it_listens(self) -> None:
        """Wait until the port is open, or the server has given up."""
        for _ in range(300):
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            time.sleep(0.05)
        raise RuntimeError(f"the server did not start:\n{self.log}")

    def get(self, path: str, **options: Any) -> dict[str, Any]:
        """The JSON that a path answers with."""
        response = self.client.get(path, **options)
        assert response.status_code == 200, f"{response.text}\n{self.log}"
        answer: dict[str, Any] = response.json()
        return answer

    def stop(self) -> int:
        """Ask it to end as a service manager would, and return its status."""
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise RuntimeError(f"the server did not end:\n{self.log}") from None


def connect(port: int, *, http2: bool = False) -> httpx.Client:
    """A client that keeps no connection: some servers close them without a word."""
    return httpx.Client(
        base_url=f"http://127.0.0.1:{port}",
        timeout=30,
        headers={} if http2 else {"Connection": "close"},
        http1=not http2,
        http2=http2,
    )


def free_port() -> int:
    """A port of this machine that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start_nginx(directory: Path, upstream: int) -> tuple[subprocess.Popen[bytes], int]:
    """Start nginx before a uwsgi socket: its process, and the port where it listens."""
    port = free_port()
    config = directory / "nginx.conf"
    config.write_text(_NGINX.format(directory=directory, port=port, upstream=upstream))
    process = subprocess.Popen(
        ["nginx", "-c", str(config), "-e", str(directory / "nginx.log")],
        stderr=subprocess.DEVNULL,
    )
    return process, port


_NGINX = """
daemon off;
pid {directory}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    uwsgi_temp_path {directory}/uwsgi;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            uwsgi_param QUERY_STRING $query_string;
            uwsgi_param REQUEST_METHOD $request_method;
            uwsgi_param CONTENT_TYPE $content_type;
            uwsgi_param CONTENT_LENGTH $content_length;
            uwsgi_param REQUEST_URI $request_uri;
            uwsgi_param PATH_INFO $document_uri;
            uwsgi_param SERVER_PROTOCOL $server_protocol;
            uwsgi_param SERVER_NAME $server_name;
            uwsgi_param SERVER_PORT $server_port;
            uwsgi_param REMOTE_ADDR $remote_addr;
            uwsgi_pass 127.0.0.1:{upstream};
        }}
    }}
}}
"""
