"""The headers of a response: from WSGI's form to ASGI's, and whether they are safe."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ._memo import Memo

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNSAFE = re.compile(r"[\0\r\n]")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_LENGTH = b"content-length"
_CHUNKED = b"transfer-encoding"
# Of one connection, which is the server's (PEP 3333, "Other HTTP Features").
_HOP_BY_HOP = {
    *{b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade"},
    _CHUNKED,
}
_OF_URIS = {b"location", b"content-location"}
_SPECIAL = {_LENGTH, *_HOP_BY_HOP, *_OF_URIS}


def encode(
    headers: Iterable[tuple[str, str]],
    *,
    is_http_2: bool,
    has_length: bool = True,
    has_uris: bool = True,
) -> tuple[list[tuple[bytes, bytes]], int | None]:
    """Check and encode the headers of a response.

    Args:
        headers: The names and values.
        is_http_2: Leave out all that is of one connection of HTTP/1.1.
        has_length: Whether it may have a ``Content-Length``; else that is left out.
        has_uris: Whether a ``Location`` is a URI for sure. Else nothing more is encoded
            where there is one, as werkzeug would make it one first.

    Returns:
        The names, in lower case, and values; what ``Content-Length`` says.

    Raises:
        ValueError: One of them could be taken for others than it is.
    """
    pairs: list[tuple[bytes, bytes]] = []
    length: int | None = None
    for name, value in headers:
        # All that is unsafe cannot be printed, which is quicker to ask.
        if not value.isprintable() and _UNSAFE.search(value):
            raise _unsafe(name, value)
        lowered, is_special = _names[name]
        if is_special:
            if lowered == _LENGTH:
                if not has_length:
                    continue  # servers would wait for what it announces
                if length is not None or not value.isdecimal():
                    raise _unsafe(name, value)
                length = int(value)
            elif lowered in _OF_URIS:
                if not has_uris:
                    return [], None
            elif is_http_2 or lowered == _CHUNKED:
                continue
        pairs.append((lowered, value.encode("latin-1")))
    return pairs, length


def _lowered(name: str) -> tuple[bytes, bool]:
    """A name in lower case, and whether it means something here."""
    if not _NAME.fullmatch(name):
        raise _unsafe(name, "")
    lowered = name.lower().encode("latin-1")
    return lowered, lowered in _SPECIAL


_names = Memo(_lowered)


def _unsafe(name: str, value: str) -> ValueError:
    return ValueError(
        f"The response's header {name!r} cannot be sent with the value {value!r}. A"
        " name has letters, digits and '-', a value no line break, and there is one"
        " Content-Length, of digits."
    )
