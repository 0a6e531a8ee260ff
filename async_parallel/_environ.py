"""From an ASGI scope to the environment of a WSGI call (PEP 3333)."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, unquote_to_bytes

from werkzeug.exceptions import BadRequest, RequestHeaderFieldsTooLarge
from werkzeug.wsgi import FileWrapper

from ._memo import Memo

if TYPE_CHECKING:
    from ._client import Scope

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_UNSAFE = re.compile(r"[\0\r\n]")
# Those of which a second one would be read by some and not by others.
_SINGLE = {
    "CONTENT_LENGTH",
    "CONTENT_TYPE",
    "HTTP_HOST",
    "HTTP_TRANSFER_ENCODING",
}
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_FILE_BLOCK = 64 * 1024


def _file_wrapper(file: Any, _size: int = 0) -> FileWrapper:
    # Each block is a hop to a worker thread, so larger ones than werkzeug's 8 KiB.
    return FileWrapper(file, _FILE_BLOCK)


_SAME_FOR_ALL = {
    "wsgi.version": (1, 0),
    "wsgi.input_terminated": True,
    "wsgi.file_wrapper": _file_wrapper,
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
    **dict.fromkeys(("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING")),
    **dict.fromkeys(("REQUEST_URI", "RAW_URI")),
    **dict.fromkeys(("wsgi.input", "wsgi.errors", "asgi.scope")),
}


def make_environ(scope: Scope, body: Any, *, max_headers: int) -> dict[str, Any]:
    """The WSGI environment of an ASGI HTTP scope.

    Header names with an underscore are left out: as ``HTTP_*`` they could not be told
    from the same name with a hyphen, which a proxy may have checked or set.

    Raises:
        BadRequest: The headers could be taken for others than they are.
        RequestHeaderFieldsTooLarge: There are more than ``max_headers``.
    """
    path, raw = scope["path"], scope.get("raw_path")
    if path.isascii() and raw == path.encode() and not scope.get("root_path"):
        script_name, uri = "", path
    else:
        script_name, path, uri = _paths(scope)
    query = scope.get("query_string", b"").decode("latin-1")
    host, port = scope.get("server") or (None, None)
    scheme, version = scope.get("scheme", "http"), scope.get("http_version", "1.1")
    full_uri = f"{uri}?{query}" if query else uri
    # A copy has room for all its keys at once, where a new dictionary would grow.
    environ = _of_servers[host, port, scheme, version].copy()
    environ["REQUEST_METHOD"] = scope["method"]
    environ["SCRIPT_NAME"] = script_name
    environ["PATH_INFO"] = path
    environ["QUERY_STRING"] = query
    environ["REQUEST_URI"] = environ["RAW_URI"] = full_uri
    environ["wsgi.input"] = body
    environ["wsgi.errors"] = sys.stderr
    environ["asgi.scope"] = scope
    client = scope.get("client")
    if client:
        environ["REMOTE_ADDR"], remote_port = client
        environ["REMOTE_PORT"] = str(remote_port)
    headers = scope["headers"]
    if len(headers) > max_headers:
        raise RequestHeaderFieldsTooLarge(
            f"The request has {len(headers)} headers, and {max_headers} are allowed."
        )
    _add_headers(environ, headers)
    return environ


def _of_server(
    reached_by: tuple[str | None, int | None, str, str],
) -> dict[str, Any]:
    """What is the same for all requests that reach a server in the same way.

    What is not has its place, and ``None`` in it.
    """
    host, port, scheme, version = reached_by
    environ = {
        **_SAME_FOR_ALL,
        # The port is None where it listens on a unix socket, named by the host.
        "SERVER_NAME": "localhost" if port is None else host,
        "SERVER_PORT": str(port) if port else _DEFAULT_PORTS.get(scheme, "80"),
        "SERVER_PROTOCOL": f"HTTP/{version}",
        "wsgi.url_scheme": scheme,
    }
    if scheme == "https":
        environ["HTTPS"] = "on"
    return environ


_of_servers = Memo(_of_server)


def _paths(scope: Scope) -> tuple[str, str, str]:
    """``SCRIPT_NAME``, ``PATH_INFO`` and the path of the URI, before any decoding.

    They are bytes in the disguise of latin-1.
    """
    path: str = scope["path"]
    raw: bytes = scope.get("raw_path") or b""
    root = scope.get("root_path", "").rstrip("/")
    # Servers decode as UTF-8, which loses what is none; the raw path still has it,
    # unless something on the way changed one of the two.
    exact = raw.isascii() and unquote(raw.decode("ascii")) == path
    encoded = unquote_to_bytes(raw) if exact else path.encode()
    encoded_root = root.encode()
    if root and (path == root or path.startswith(f"{root}/")):
        encoded = encoded[len(encoded_root) :]
    script_name, path = encoded_root.decode("latin-1"), encoded.decode("latin-1")
    return script_name, path, raw.decode("latin-1") or script_name + path


def _add_headers(environ: dict[str, Any], headers: list[tuple[bytes, bytes]]) -> None:
    for name, raw_value in headers:
        key = environ_keys[name]
        if key is None:
            continue
        value = raw_value.decode("latin-1")
        # All that is unsafe cannot be printed, which is quicker to ask.
        if not value.isprintable() and _UNSAFE.search(value):
            raise BadRequest(f"The header {name!r} has a line break or a zero in it.")
        if key in environ:
            if key in _SINGLE:
                raise BadRequest(f"The header {name!r} is there twice.")
            separator = "; " if key == "HTTP_COOKIE" else ","
            value = f"{environ[key]}{separator}{value}"
        environ[key] = value
    length = environ.get("CONTENT_LENGTH")
    if length is not None:
        if not (length.isascii() and length.isdecimal()):
            raise BadRequest(f"The Content-Length is {length!r}, which is no number.")
        if "HTTP_TRANSFER_ENCODING" in environ:
            raise BadRequest("It has both Content-Length and Transfer-Encoding.")


def _environ_key(name: bytes) -> str | None:
    """What a header is called in the environment; ``None`` where it must not be there.

    Raises:
        BadRequest: It is no name of a header.
    """
    if not _TOKEN.fullmatch(name):
        raise BadRequest(f"{name!r} is no name of a header.")
    if b"_" in name:
        return None
    key = name.decode("ascii").upper().replace("-", "_")
    return key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"


environ_keys = Memo(_environ_key)
