"""Who writes, reads and works here: joined inheritance."""

from __future__ import annotations

import dataclasses
import datetime as dt  # noqa: TC003 - Mapped reads it
from typing import TYPE_CHECKING, Any

from sqlalchemy import ForeignKey, String, func
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    Mapped,
    column_property,
    composite,
    deferred,
    mapped_column,
    relationship,
)

from library.base import Model
from library.places import Branch  # noqa: TC001 - Mapped reads it

if TYPE_CHECKING:
    from library.items import Contribution
    from library.lending import Loan, Reservation


@dataclasses.dataclass
class Address:
    """Two columns in one value."""

    street: str
    city: str


class Person(Model):
    """Anyone."""

    __tablename__ = "person"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    first_name: Mapped[str]
    last_name: Mapped[str] = mapped_column()
    initial: Mapped[str] = column_property(func.substr(last_name, 1, 1))
    notes: Mapped[str | None] = deferred(mapped_column(String))

    __mapper_args__ = {  # noqa: RUF012 - as SQLAlchemy has it
        "polymorphic_on": "kind",
        "polymorphic_identity": "person",
    }

    @hybrid_property
    def full_name(self) -> str:
        """Both names."""
        return f"{self.first_name} {self.last_name}"

    @full_name.inplace.expression
    @classmethod
    def _full_name(cls) -> Any:
        return cls.first_name + " " + cls.last_name


class Author(Person):
    """Someone who has made an item; what it is comes along."""

    __tablename__ = "author"

    id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    born: Mapped[int]
    contributions: Mapped[list[Contribution]] = relationship(
        back_populates="author", order_by="Contribution.item_id"
    )
    items: AssociationProxy[list[Any]] = association_proxy("contributions", "item")

    __mapper_args__ = {"polymorphic_identity": "author"}  # noqa: RUF012


class Plan(Model):
    """What a member pays for."""

    __tablename__ = "plan"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    loans_at_once: Mapped[int]


class Member(Person):
    """Someone who borrows."""

    __tablename__ = "member"

    id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    since: Mapped[dt.date]
    street: Mapped[str]
    town: Mapped[str]
    address: Mapped[Address] = composite("street", "town")
    plan_id: Mapped[int] = mapped_column(ForeignKey("plan.id"))
    plan: Mapped[Plan] = relationship(lazy="joined", innerjoin=True)
    recruiter_id: Mapped[int | None] = mapped_column(ForeignKey("member.id"))
    recruiter: Mapped[Member | None] = relationship(
        remote_side="Member.id", foreign_keys=recruiter_id
    )
    loans: Mapped[list[Loan]] = relationship(
        back_populates="member", order_by="Loan.id"
    )
    reservations: Mapped[list[Reservation]] = relationship(
        back_populates="member", order_by="Reservation.id", lazy="dynamic"
    )

    __mapper_args__ = {  # noqa: RUF012
        "polymorphic_identity": "member",
        "inherit_condition": id == Person.id,  # noqa: A003
    }


class Librarian(Person):
    """Someone who works in a branch."""

    __tablename__ = "librarian"

    id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    branch_id: Mapped[int] = mapped_column(ForeignKey("branch.id"))
    branch: Mapped[Branch] = relationship()

    __mapper_args__ = {"polymorphic_identity": "librarian"}  # noqa: RUF012


class Card(Model):
    """A member's card, one to one."""

    __tablename__ = "card"

    number: Mapped[str] = mapped_column(String(10), primary_key=True)
    member_id: Mapped[int] = mapped_column(ForeignKey("member.id"), unique=True)
    member: Mapped[Member] = relationship(lazy="selectin")
