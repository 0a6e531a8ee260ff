"""A session for one statement outside any transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import orm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy.engine import Connection, Engine


def reading(make: Callable[..., orm.Session]) -> Callable[..., orm.Session]:
    """What makes the same sessions, for reading from a connection as it is.

    A session keeps the books of a transaction: a third of what a small statement
    costs here. Outside a transaction there is nothing to keep.

    Args:
        make: A session class or a ``sessionmaker``. What else makes sessions is
            returned unchanged.
    """
    if type(make) is orm.sessionmaker:
        maker = cast("orm.sessionmaker[orm.Session]", make)
        reading_maker = orm.sessionmaker(class_=_subclass(maker.class_))
        reading_maker.kw = maker.kw  # the same, so that configure() is for both
        return reading_maker
    return _subclass(make) if isinstance(make, type) else make


def _subclass(class_: type[orm.Session]) -> type[orm.Session]:
    return type(class_.__name__, (_Reader, class_), {"__module__": class_.__module__})


class _Reader(orm.Session):
    # Not a public method. Where it is not asked, a session begins a transaction as
    # ever: slower, and as correct.
    def _connection_for_bind(
        self,
        engine: Engine | Connection,
        execution_options: Mapping[str, Any] | None = None,
        **kw: Any,
    ) -> Connection:
        if engine is self.bind and not execution_options:
            connection: Any = engine
        else:  # of a get_bind() of the application's own
            parent: Any = super()
            connection = parent._connection_for_bind(engine, execution_options, **kw)  # noqa: SLF001
        return connection  # type: ignore[no-any-return]
