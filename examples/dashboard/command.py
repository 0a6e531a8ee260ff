"""Makes the shop, serves its dashboard, and shows what each page waits for."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .data import make_data
from .measuring import draw, measure
from .servers import serve_dashboard, serve_postgres

if TYPE_CHECKING:
    from types import FrameType

PAGES = ("/one-after-another", "/gathered")
SERVE_PORT = 8000


def default_data_dir() -> Path:
    """A directory of this user's among the temporary files."""
    return Path(tempfile.gettempdir(), f"async-parallel-dashboard-{getpass.getuser()}")


@click.command()
@click.option("--postgres", is_flag=True, help="Use PostgreSQL instead of SQLite.")
@click.option("--serve", is_flag=True, help="Stay up until Ctrl-C.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"0 for any that is free. Default: {SERVE_PORT} with --serve, else 0.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=default_data_dir,
    help="The directory of the database. Default: one among the temporary files.",
)
def main(*, postgres: bool, serve: bool, port: int | None, data: Path) -> None:
    """Show a dashboard whose queries run one after another, and all at once."""
    # Also where the shell began this in the background, which ignores Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _interrupt)
    if port is None:
        port = SERVE_PORT if serve else 0
    try:
        run(postgres=postgres, serve=serve, port=port, data=data.resolve())
    except click.ClickException:
        raise
    except Exception as error:
        raise click.ClickException(f"{type(error).__name__}: {error}") from error


def run(*, postgres: bool, serve: bool, port: int, data: Path) -> None:
    """Make the data, start what serves it, measure both pages, stop what started."""
    data.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        if postgres:
            url = stack.enter_context(serve_postgres(data / "dashboard-postgres"))
        else:
            url = f"sqlite+aiosqlite:///{data / 'dashboard.sqlite3'}"
        asyncio.run(make_data(url))
        server = stack.enter_context(serve_dashboard(url, port))
        database = "PostgreSQL" if postgres else "SQLite"
        click.echo(f"{database}; each query also waits 100 ms, as across a network.\n")
        for line in draw([measure(server.address, path) for path in PAGES]):
            click.echo(line)
        if serve:
            with contextlib.suppress(KeyboardInterrupt):
                click.echo(f"\nOpen {server.address}/ and stop with Ctrl-C.")
                server.wait()
        else:
            click.echo(f"\nServed at {server.address}/ until now; --serve keeps it up.")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Do what Ctrl-C does at this moment."""
    signal.raise_signal(signal.SIGINT)
