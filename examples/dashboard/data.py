"""Generates the shop's rows, always the same ones."""

from __future__ import annotations

import datetime as dt
import itertools
import random
import sys
from typing import TYPE_CHECKING, Any

import click
from sqlalchemy import Connection, insert, inspect, select, text
from sqlalchemy.ext.asyncio import create_async_engine

from .interrupts import interrupts_held
from .shop import LAST_DAY, Base, Complete, Customer, Order, OrderLine, Product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.ext.asyncio import AsyncConnection

VERSION = 1
"""To be raised with each change here: databases of another version are made anew."""

SEED = 2025
CUSTOMERS = 2_000
ORDERS = 45_000
DAYS = 3 * 365
BATCH = 1_500


def _words(text: str) -> list[str]:
    return text.split()


FIRST_NAMES = _words(
    "Ada Alma Anton Bela Carla Clara David Edith Emil Eva Felix Greta Hanna Hugo Ida"
    " Ivo Jana Jonas Karl Lea Leo Lina Maja Max Mila Nils Nora Otto Paul Rosa Ruth"
    " Sara Theo Tilda Vera Viktor"
)
LAST_NAMES = _words(
    "Adler Bauer Berg Brandt Dahl Engel Falk Fischer Graf Hahn Holm Jansen Keller"
    " Klein Kraus Lange Lind Lorenz Maier Moser Novak Olsen Peters Richter Roth Sommer"
    " Stein Vogel Weber Winter Wolf Ziegler"
)
CITIES = _words(
    "Antwerp Basel Bergen Bremen Ghent Graz Hamburg Krakow Leipzig Lyon Malmo Porto"
    " Turin Utrecht Vienna Zagreb"
)
CATALOGUE = {
    "Furniture": (
        _words("Ash Beech Birch Cherry Oak Walnut"),
        _words("Armchair Bench Bookcase Chair Desk Shelf Stool Table"),
        range(7_900, 34_900, 100),
    ),
    "Kitchen": (
        _words("Clay Enamel Glass Porcelain Steel Stoneware"),
        _words("Bowl Carafe Jug Mug Plate Pot Teapot Tray"),
        range(900, 5_900, 100),
    ),
    "Light": (
        _words("Brass Copper Glass Opal Paper Smoke"),
        _words("Candlestick Lamp Lantern Pendant Sconce Spotlight"),
        range(1_900, 14_900, 100),
    ),
    "Textile": (
        _words("Cotton Felt Linen Mohair Velvet Wool"),
        _words("Blanket Curtain Cushion Pouffe Rug Runner Throw"),
        range(1_400, 8_900, 100),
    ),
}
"""The materials, the things and the prices of each category."""

SEASON = (0.8, 0.8, 0.9, 0.95, 1.0, 0.9, 0.85, 0.8, 1.0, 1.15, 1.5, 1.7)

Row = dict[str, Any]


async def make_data(database_url: str) -> bool:
    """Fill the database, unless it is complete already; a half-made one anew.

    Args:
        database_url: A URL with an async driver.

    Returns:
        Whether there was anything to do.
    """
    engine = create_async_engine(database_url)
    try:
        async with engine.begin() as connection:
            if await connection.run_sync(_is_complete):
                return False
            await connection.run_sync(Base.metadata.drop_all)
            await connection.run_sync(Base.metadata.create_all)
        async with engine.begin() as connection:
            await _fill(connection)
        return True
    finally:
        await engine.dispose()


def _is_complete(connection: Connection) -> bool:
    if not inspect(connection).has_table(Complete.__tablename__):
        return False
    return connection.scalar(select(Complete.version)) == VERSION


async def _fill(connection: AsyncConnection) -> None:
    rng = random.Random(SEED)  # noqa: S311 - sample data
    products = _products(rng)
    progress = click.progressbar(
        length=ORDERS, label="Making the shop", file=sys.stderr
    )
    # Cancelled in executemany(), asyncpg 0.32 may wait for ever.
    with interrupts_held() as interrupted, progress as bar:
        await connection.execute(insert(Customer), _customers(rng))
        await connection.execute(insert(Product), products)
        for orders, lines in _order_batches(rng, products):
            await connection.execute(insert(Order), orders)
            await connection.execute(insert(OrderLine), lines)
            bar.update(len(orders))
            if interrupted:
                break
    await connection.execute(insert(Complete), {"version": VERSION})
    await connection.execute(text("ANALYZE"))


def _customers(rng: random.Random) -> list[Row]:
    return [
        {
            "id": number,
            "name": f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}",
            "city": rng.choice(CITIES),
        }
        for number in range(1, CUSTOMERS + 1)
    ]


def _products(rng: random.Random) -> list[Row]:
    numbers = itertools.count(1)
    return [
        {
            "id": next(numbers),
            "name": f"{material} {thing}",
            "category": category,
            "price_cents": rng.choice(prices),
        }
        for category, (materials, things, prices) in CATALOGUE.items()
        for thing in things
        for material in materials
    ]


def _order_batches(
    rng: random.Random, products: list[Row]
) -> Iterator[tuple[list[Row], list[Row]]]:
    """The orders in the order of their days, in batches, each with its lines."""
    popularity = _few_often(rng, len(products))
    loyalty = _few_often(rng, CUSTOMERS)
    days = _order_days(rng)
    numbers = itertools.count(1)
    for start in range(0, ORDERS, BATCH):
        orders: list[Row] = []
        lines: list[Row] = []
        for number, day in enumerate(days[start : start + BATCH], start + 1):
            count = rng.choices((1, 2, 3, 4, 5), (20, 30, 25, 15, 10))[0]
            chosen = rng.choices(products, cum_weights=popularity, k=count)
            own = [_line(rng, next(numbers), number, product) for product in chosen]
            customer = rng.choices(range(CUSTOMERS), cum_weights=loyalty)[0] + 1
            orders.append(
                {
                    "id": number,
                    "customer_id": customer,
                    "placed_on": day,
                    "status": _status(rng, day),
                    "total_cents": sum(
                        line["quantity"] * line["unit_price_cents"] for line in own
                    ),
                }
            )
            lines += own
        yield orders, lines


def _line(rng: random.Random, number: int, order: int, product: Row) -> Row:
    return {
        "id": number,
        "order_id": order,
        "product_id": product["id"],
        "quantity": rng.choices((1, 2, 4), (75, 18, 7))[0],
        "unit_price_cents": product["price_cents"],
    }


def _few_often(rng: random.Random, count: int) -> list[float]:
    """Cumulative weights by which a few of ``count`` things are chosen often."""
    weights = [1 / (8 + place) ** 0.7 for place in range(count)]
    rng.shuffle(weights)
    return list(itertools.accumulate(weights))


def _order_days(rng: random.Random) -> list[dt.date]:
    """The day of each order: more from year to year, and most before Christmas."""
    days = [LAST_DAY - dt.timedelta(days=DAYS - 1 - number) for number in range(DAYS)]
    weights = [
        (1 + number / DAYS) * SEASON[day.month - 1] for number, day in enumerate(days)
    ]
    return sorted(rng.choices(days, weights, k=ORDERS))


def _status(rng: random.Random, day: dt.date) -> str:
    """Where an order of ``day`` has got to."""
    age = (LAST_DAY - day).days
    if rng.random() < 0.04:  # noqa: PLR2004 - one in twenty-five
        return "cancelled"
    if age < rng.randint(1, 4):
        return "new"
    if age < rng.randint(3, 14):
        return "sent"
    return "returned" if rng.random() < 0.06 else "delivered"  # noqa: PLR2004 - a few
