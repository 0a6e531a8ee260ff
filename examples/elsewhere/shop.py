"""What the others ask for; ``python -m examples.elsewhere.shop`` makes the rows."""

from __future__ import annotations

import os

from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from async_parallel import scalar_one

DATABASE_URL = os.environ.get("SHOP_DATABASE_URL", "sqlite:///shop.sqlite3")


class Base(DeclarativeBase):
    """Of all models."""


class Order(Base):
    """What somebody has ordered."""

    __tablename__ = "orders_elsewhere"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    total: Mapped[int]


LATEST = select(Order).order_by(Order.id.desc()).limit(2)
TOTALS = (
    select(Order.customer, func.sum(Order.total))
    .group_by(Order.customer)
    .order_by(Order.customer)
)
REVENUE = scalar_one(select(func.sum(Order.total)))


def make_rows(url: str = DATABASE_URL) -> None:
    """Make the table and three rows."""
    engine = create_engine(url)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for customer, total in [("Ada", 3), ("Bob", 4), ("Ada", 5)]:
            session.add(Order(customer=customer, total=total))
        session.commit()
    engine.dispose()


if __name__ == "__main__":
    make_rows()
