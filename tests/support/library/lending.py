"""What is lent, to whom, and what it was thought of."""

from __future__ import annotations

import datetime as dt  # noqa: TC003 - Mapped reads it
import decimal  # noqa: TC003
from typing import Any

from sqlalchemy import JSON, Enum, ForeignKey, Numeric
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, mapped_column, relationship

from library.base import Model, State
from library.items import Item  # noqa: TC001 - Mapped reads it
from library.people import Member  # noqa: TC001
from library.places import Branch, Shelf  # noqa: TC001


class Copy(Model):
    """One copy of an item, on a shelf or lent."""

    __tablename__ = "copy"

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    shelf_id: Mapped[int] = mapped_column(ForeignKey("shelf.id"))
    state: Mapped[State] = mapped_column(Enum(State))
    item: Mapped[Item] = relationship(back_populates="copies")
    shelf: Mapped[Shelf] = relationship(lazy="joined")
    loans: Mapped[list[Loan]] = relationship(back_populates="copy", order_by="Loan.id")


class Loan(Model):
    """A copy in the hands of a member."""

    __tablename__ = "loan"

    id: Mapped[int] = mapped_column(primary_key=True)
    copy_id: Mapped[int] = mapped_column(ForeignKey("copy.id"))
    member_id: Mapped[int] = mapped_column(ForeignKey("member.id"))
    lent_on: Mapped[dt.date]
    returned_on: Mapped[dt.date | None]
    copy: Mapped[Copy] = relationship(back_populates="loans", lazy="selectin")
    member: Mapped[Member] = relationship(back_populates="loans")
    fines: Mapped[list[Fine]] = relationship(
        back_populates="loan", order_by="Fine.id", lazy="subquery"
    )

    @hybrid_property
    def is_open(self) -> bool:
        """Whether it was not returned yet."""
        return self.returned_on is None

    @is_open.inplace.expression
    @classmethod
    def _is_open(cls) -> Any:
        return cls.returned_on.is_(None)


class Fine(Model):
    """What a loan that was returned late costs."""

    __tablename__ = "fine"

    id: Mapped[int] = mapped_column(primary_key=True)
    loan_id: Mapped[int] = mapped_column(ForeignKey("loan.id"))
    amount: Mapped[decimal.Decimal] = mapped_column(Numeric(8, 2, asdecimal=False))
    loan: Mapped[Loan] = relationship(back_populates="fines")


class Reservation(Model):
    """Who waits for an item."""

    __tablename__ = "reservation"

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    member_id: Mapped[int] = mapped_column(ForeignKey("member.id"))
    item: Mapped[Item] = relationship()
    member: Mapped[Member] = relationship(back_populates="reservations")


class Review(Model):
    """What a member thinks of an item."""

    __tablename__ = "review"

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    member_id: Mapped[int] = mapped_column(ForeignKey("member.id"))
    stars: Mapped[int]
    details: Mapped[dict[str, Any]] = mapped_column(JSON)
    item: Mapped[Item] = relationship(back_populates="reviews")
    member: Mapped[Member] = relationship(lazy="joined")
    comments: Mapped[list[Comment]] = relationship(
        back_populates="review", order_by="Comment.id"
    )


class Comment(Model):
    """What is said about a review, and about what is said."""

    __tablename__ = "comment"

    id: Mapped[int] = mapped_column(primary_key=True)
    review_id: Mapped[int] = mapped_column(ForeignKey("review.id"))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("comment.id"))
    text: Mapped[str]
    review: Mapped[Review] = relationship(back_populates="comments")
    parent: Mapped[Comment | None] = relationship(
        back_populates="answers", remote_side="Comment.id"
    )
    answers: Mapped[list[Comment]] = relationship(
        back_populates="parent", order_by="Comment.id"
    )


class Event(Model):
    """Something that takes place in a branch."""

    __tablename__ = "event"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    branch_id: Mapped[int] = mapped_column(ForeignKey("branch.id"))
    branch: Mapped[Branch] = relationship(lazy="joined")
    tickets: Mapped[list[Ticket]] = relationship(
        back_populates="event", order_by="Ticket.member_id"
    )


class Ticket(Model):
    """Who comes to an event, on which seat: an association object."""

    __tablename__ = "ticket"

    event_id: Mapped[int] = mapped_column(ForeignKey("event.id"), primary_key=True)
    member_id: Mapped[int] = mapped_column(ForeignKey("member.id"), primary_key=True)
    seat: Mapped[int]
    event: Mapped[Event] = relationship(back_populates="tickets")
    member: Mapped[Member] = relationship()
