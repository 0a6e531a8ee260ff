"""Money in two tables, and processes that move it from one to the other."""

from __future__ import annotations

import contextlib
import os
import random
import select
import sqlite3
import sys
import time
from typing import TYPE_CHECKING

from processes import Process
from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ACCOUNTS = 40
TOTAL = 2 * ACCOUNTS * 1000
"""The sum of all balances, at any time."""

_MOVING = "moving"
_BATCH = 500
# Every writer locks an account of giro first, so that none waits in a circle.
_POSTGRESQL = f"""
DO $$
DECLARE
    payer int; payee int; amount int;
BEGIN
    FOR _ IN 1..{_BATCH} LOOP
        payer := 1 + floor(random() * {ACCOUNTS});
        payee := 1 + floor(random() * {ACCOUNTS});
        amount := 1 + floor(random() * 100);
        UPDATE giro SET balance = balance - amount WHERE number = payer;
        UPDATE savings SET balance = balance + amount WHERE number = payee;
        COMMIT;
    END LOOP;
END $$
"""


class Base(DeclarativeBase):
    """The base of the mapped classes."""


class Giro(Base):
    """An account from which money is moved."""

    __tablename__ = "giro"

    number: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]


class Savings(Base):
    """An account to which money is moved."""

    __tablename__ = "savings"

    number: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]


def make_accounts(url: str) -> None:
    """Create the tables, with the same balance in each account."""
    drop_accounts(url)
    engine = create_engine(url)
    try:
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            for number in range(1, ACCOUNTS + 1):
                session.add(Giro(number=number, balance=1000))
                session.add(Savings(number=number, balance=1000))
            session.commit()
    finally:
        engine.dispose()


def drop_accounts(url: str) -> None:
    """Drop the tables."""
    engine = create_engine(url)
    try:
        Base.metadata.drop_all(engine)
    finally:
        engine.dispose()


@contextlib.contextmanager
def moving(url: str, *, writers: int, seconds: float) -> Iterator[None]:
    """Have processes of their own move money, as fast as they can, in the block.

    Args:
        url: Of the database.
        writers: How many processes.
        seconds: How long the block takes at most; a longer one fails.
    """
    processes = [Process("money", str(seconds), url) for _ in range(writers)]
    try:
        for process in processes:
            assert process.read_line() == _MOVING, process.end()
        yield
        ends = [process.end() for process in processes]
    finally:
        for process in processes:
            process.close()
    assert all(status == 0 for status, _, _ in ends), ends
    transfers = sum(int(output.split()[0]) for _, output, _ in ends)
    took = max(float(output.split()[1]) for _, output, _ in ends)
    print(f"{transfers} transfers, {transfers / took:,.0f} a second")  # noqa: T201
    assert transfers


@contextlib.contextmanager
def _postgresql(url: str) -> Iterator[Callable[[], None]]:
    """What makes transfers in PostgreSQL, each a transaction, in one round trip."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("SET synchronous_commit = off")
            yield lambda: connection.exec_driver_sql(_POSTGRESQL).close()
    finally:
        engine.dispose()


@contextlib.contextmanager
def _sqlite(url: str) -> Iterator[Callable[[], None]]:
    """What makes some transfers in SQLite, each a transaction."""
    name = make_url(url).database
    assert name is not None
    connection = sqlite3.connect(name, timeout=30, isolation_level=None)

    def move() -> None:
        for _ in range(_BATCH):
            payer, payee = random.choices(range(1, ACCOUNTS + 1), k=2)
            amount = random.randint(1, 100)
            connection.execute("BEGIN IMMEDIATE")
            for table, change, number in (
                ("giro", -amount, payer),
                ("savings", amount, payee),
            ):
                connection.execute(
                    f"UPDATE {table} SET balance = balance + ? WHERE number = ?",
                    (change, number),
                )
            connection.execute("COMMIT")

    with contextlib.closing(connection):
        connection.execute("PRAGMA synchronous = off")
        yield move


def main(url: str, seconds: float) -> int:
    """Move money until told to end, or the input ends, or the time is over.

    Prints how many transfers it made, and in how many seconds.

    Returns:
        The status: 1 where the time was over.
    """
    movers = _sqlite if url.startswith("sqlite") else _postgresql
    told, transfers, begun = False, 0, time.monotonic()
    with movers(url) as move:
        while not told and time.monotonic() < begun + seconds:
            move()
            if not transfers:
                print(_MOVING, flush=True)  # noqa: T201
            transfers += _BATCH
            told = bool(select.select([sys.stdin], [], [], 0)[0])
    print(transfers, time.monotonic() - begun)  # noqa: T201
    return 0 if told else 1


if __name__ == "__main__":
    sys.exit(main(os.environ["TEST_DATABASE"], float(sys.argv[1])))
