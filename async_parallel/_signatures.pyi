# What type checkers infer of the public functions, case by case.
#
# A gather's result depends on each of its queries. Given is one of them, of any kind:
# its result is R where it says one, as a function does. Where it does not, R is what it
# defaults to, a list of T, which is what was selected. Selects of several columns are
# Several, with overloads of their own, since no default has any number of parts.
#
# Which overload is taken, where several fit, is what their order says.
# pyright: reportOverlappingOverload=false, reportInvalidTypeVarUse=false

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from types import CoroutineType
from typing import (
    Any,
    Generic,
    Literal,
    Protocol,
    Required,
    TypeAlias,
    TypedDict,
    Unpack,
    overload,
)

from sqlalchemy import Row, Select, TextClause
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.orm.query import Query as LegacyQuery
from sqlalchemy.sql import Executable
from sqlalchemy.sql.selectable import TypedReturnsRows
from typing_extensions import TypeVar, TypeVarTuple

from ._calls import BoundOptions, GatherOptions
from ._query import Query

MYPY: Literal[False]  # which mypy takes for true, whatever is said of it

F = TypeVar("F")
K = TypeVar("K")
P = TypeVar("P", bound=tuple[Any, ...])
A = TypeVar("A")
B = TypeVar("B")
C = TypeVarTuple("C")
T = TypeVar("T")
R = TypeVar("R")

AnyRow: TypeAlias = Row[*tuple[Any, ...]]

# In SQLAlchemy 2.0 a Select has one parameter, a tuple, which fits the first two. Then
# pyright finds the entity, and mypy, for which one of two answers is none, Any.
Given: TypeAlias = (
    TypedReturnsRows[*tuple[T]]
    | TypedReturnsRows[tuple[Any, ...]]
    | TextClause
    | LegacyQuery[T]
    | Query[R]
    | Callable[[AsyncSession], Awaitable[R]]
    | Callable[[Session], R]
    | Callable[[], R]
)
Unnamed: TypeAlias = Given[T, R] | TypedReturnsRows[Any, Any, *tuple[Any, ...]]
Several: TypeAlias = TypedReturnsRows[*C]
Rows: TypeAlias = list[Row[*C]]
Single: TypeAlias = Executable | Query[Any] | Callable[..., Any] | tuple[Any, ...]
Outcome: TypeAlias = R | BaseException

# A list whose items have nothing in common but that they are queries: it would take
# any. Only where a mere type variable is asked for does mypy look at a list by itself.
class _TakesFunctions(Protocol):
    def append(self, item: Callable[..., object], /) -> None: ...

class _TakesSelects(Protocol):
    def append(self, item: Select[object], /) -> None: ...

Mixed = TypeVar("Mixed", bound=_TakesFunctions | _TakesSelects)

# A list of functions with one result: of what it gives, and of what it takes.
class Functions(Protocol[R]):
    def append(self, item: Callable[..., R], /) -> None: ...
    def pop(self, index: int = -1, /) -> Callable[[], R] | Callable[[Session], R]: ...

class AsyncFunctions(Protocol[R]):
    if MYPY:
        def append(self, item: Callable[..., Coroutine[Any, Any, R]], /) -> None: ...
    else:
        def append(
            self, item: Callable[..., CoroutineType[Any, Any, R]], /
        ) -> None: ...

    def pop(self, index: int = -1, /) -> Callable[[AsyncSession], Awaitable[R]]: ...

class Raising(GatherOptions, total=False):
    return_exceptions: Literal[False]

class Returning(GatherOptions):
    return_exceptions: Required[Literal[True]]

class Either(GatherOptions, total=False):
    return_exceptions: bool

class BoundRaising(BoundOptions, total=False):
    return_exceptions: Literal[False]

class BoundReturning(BoundOptions):
    return_exceptions: Required[Literal[True]]

class BoundEither(BoundOptions, total=False):
    return_exceptions: bool

class ShapeOptions(TypedDict, total=False):
    label: str | None
    timeout: float | None
    bind: str | None

def typed_as(signature: F) -> Callable[[Callable[..., Any]], F]: ...

class Shapes:
    @overload
    @staticmethod
    def rows(
        statement: TypedReturnsRows[P], **options: Unpack[ShapeOptions]
    ) -> Query[list[Row[P]]]: ...
    @overload
    @staticmethod
    def rows(
        statement: TypedReturnsRows[*C], **options: Unpack[ShapeOptions]
    ) -> Query[Rows[*C]]: ...
    @overload
    @staticmethod
    def rows(
        statement: Executable, **options: Unpack[ShapeOptions]
    ) -> Query[list[AnyRow]]: ...
    @overload
    @staticmethod
    def scalars(
        statement: TypedReturnsRows[tuple[T, *C]], **options: Unpack[ShapeOptions]
    ) -> Query[list[T]]: ...
    @overload
    @staticmethod
    def scalars(
        statement: TypedReturnsRows[T, *C], **options: Unpack[ShapeOptions]
    ) -> Query[list[T]]: ...
    @overload
    @staticmethod
    def scalars(
        statement: Executable, **options: Unpack[ShapeOptions]
    ) -> Query[list[Any]]: ...
    @overload
    @staticmethod
    def scalar(
        statement: TypedReturnsRows[tuple[T, *C]], **options: Unpack[ShapeOptions]
    ) -> Query[T | None]: ...
    @overload
    @staticmethod
    def scalar(
        statement: TypedReturnsRows[T, *C], **options: Unpack[ShapeOptions]
    ) -> Query[T | None]: ...
    @overload
    @staticmethod
    def scalar(
        statement: Executable, **options: Unpack[ShapeOptions]
    ) -> Query[Any]: ...
    @overload
    @staticmethod
    def scalar_one(
        statement: TypedReturnsRows[tuple[T, *C]], **options: Unpack[ShapeOptions]
    ) -> Query[T]: ...
    @overload
    @staticmethod
    def scalar_one(
        statement: TypedReturnsRows[T, *C], **options: Unpack[ShapeOptions]
    ) -> Query[T]: ...
    @overload
    @staticmethod
    def scalar_one(
        statement: Executable, **options: Unpack[ShapeOptions]
    ) -> Query[Any]: ...
    @overload
    @staticmethod
    def first(
        statement: TypedReturnsRows[tuple[T]], **options: Unpack[ShapeOptions]
    ) -> Query[T | None]: ...
    @overload
    @staticmethod
    def first(
        statement: TypedReturnsRows[tuple[A, B, *C]], **options: Unpack[ShapeOptions]
    ) -> Query[Any]: ...
    @overload
    @staticmethod
    def first(
        statement: TypedReturnsRows[*tuple[T]], **options: Unpack[ShapeOptions]
    ) -> Query[T | None]: ...
    @overload
    @staticmethod
    def first(
        statement: TypedReturnsRows[A, B, *C], **options: Unpack[ShapeOptions]
    ) -> Query[Row[A, B, *C] | None]: ...
    @overload
    @staticmethod
    def first(statement: Executable, **options: Unpack[ShapeOptions]) -> Query[Any]: ...
    @overload
    @staticmethod
    def one(
        statement: TypedReturnsRows[tuple[T]], **options: Unpack[ShapeOptions]
    ) -> Query[T]: ...
    @overload
    @staticmethod
    def one(
        statement: TypedReturnsRows[tuple[A, B, *C]], **options: Unpack[ShapeOptions]
    ) -> Query[Any]: ...
    @overload
    @staticmethod
    def one(
        statement: TypedReturnsRows[*tuple[T]], **options: Unpack[ShapeOptions]
    ) -> Query[T]: ...
    @overload
    @staticmethod
    def one(
        statement: TypedReturnsRows[A, B, *C], **options: Unpack[ShapeOptions]
    ) -> Query[Row[A, B, *C]]: ...
    @overload
    @staticmethod
    def one(statement: Executable, **options: Unpack[ShapeOptions]) -> Query[Any]: ...
    @overload
    @staticmethod
    def one_or_none(
        statement: TypedReturnsRows[tuple[T]], **options: Unpack[ShapeOptions]
    ) -> Query[T | None]: ...
    @overload
    @staticmethod
    def one_or_none(
        statement: TypedReturnsRows[tuple[A, B, *C]], **options: Unpack[ShapeOptions]
    ) -> Query[Any]: ...
    @overload
    @staticmethod
    def one_or_none(
        statement: TypedReturnsRows[*tuple[T]], **options: Unpack[ShapeOptions]
    ) -> Query[T | None]: ...
    @overload
    @staticmethod
    def one_or_none(
        statement: TypedReturnsRows[A, B, *C], **options: Unpack[ShapeOptions]
    ) -> Query[Row[A, B, *C] | None]: ...
    @overload
    @staticmethod
    def one_or_none(
        statement: Executable, **options: Unpack[ShapeOptions]
    ) -> Query[Any]: ...

# All below is written by tests/typing/write_signatures.py.

T1 = TypeVar("T1", default=Any)
R1 = TypeVar("R1", default=list[T1])
C1 = TypeVarTuple("C1", default=Unpack[tuple[Any, ...]])
T2 = TypeVar("T2", default=Any)
R2 = TypeVar("R2", default=list[T2])
C2 = TypeVarTuple("C2", default=Unpack[tuple[Any, ...]])
T3 = TypeVar("T3", default=Any)
R3 = TypeVar("R3", default=list[T3])
C3 = TypeVarTuple("C3", default=Unpack[tuple[Any, ...]])
T4 = TypeVar("T4", default=Any)
R4 = TypeVar("R4", default=list[T4])
C4 = TypeVarTuple("C4", default=Unpack[tuple[Any, ...]])
T5 = TypeVar("T5", default=Any)
R5 = TypeVar("R5", default=list[T5])
T6 = TypeVar("T6", default=Any)
R6 = TypeVar("R6", default=list[T6])
T7 = TypeVar("T7", default=Any)
R7 = TypeVar("R7", default=list[T7])
T8 = TypeVar("T8", default=Any)
R8 = TypeVar("R8", default=list[T8])

if MYPY:
    class Scope(
        Generic[
            T1,
            R1,
            T2,
            R2,
            T3,
            R3,
            T4,
            R4,
            T5,
            R5,
            T6,
            R6,
            T7,
            R7,
            T8,
            R8,
        ]
    ): ...

else:
    class Scope:
        def __class_getitem__(cls, names: Any) -> Any: ...

class Signatures(
    Scope[
        T1,
        R1,
        T2,
        R2,
        T3,
        R3,
        T4,
        R4,
        T5,
        R5,
        T6,
        R6,
        T7,
        R7,
        T8,
        R8,
    ]
):
    @overload
    @staticmethod
    async def gather_queries(
        queries: Mixed,
        /,
        **options: Unpack[BoundRaising],
    ) -> list[Any]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: list[Select[tuple[T]]],
        /,
        **options: Unpack[BoundRaising],
    ) -> list[list[T]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: list[Select[tuple[A, *C]]],
        /,
        **options: Unpack[BoundRaising],
    ) -> list[Any]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: list[Select[*tuple[T]]],
        /,
        **options: Unpack[BoundRaising],
    ) -> list[list[T]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: list[Select[A, B, *C]],
        /,
        **options: Unpack[BoundRaising],
    ) -> list[Rows[A, B, *C]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: list[LegacyQuery[T]],
        /,
        **options: Unpack[BoundRaising],
    ) -> list[list[T]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: list[Query[R]],
        /,
        **options: Unpack[BoundRaising],
    ) -> list[R]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: AsyncFunctions[R],
        /,
        **options: Unpack[BoundRaising],
    ) -> list[R]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: Functions[R],
        /,
        **options: Unpack[BoundRaising],
    ) -> list[R]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: Mapping[K, Select[tuple[T]]],
        /,
        **options: Unpack[BoundRaising],
    ) -> dict[K, list[T]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: Mapping[K, Select[tuple[A, *C]]],
        /,
        **options: Unpack[BoundRaising],
    ) -> dict[K, Any]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: Mapping[K, Select[*tuple[T]]],
        /,
        **options: Unpack[BoundRaising],
    ) -> dict[K, list[T]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: Mapping[K, LegacyQuery[T]],
        /,
        **options: Unpack[BoundRaising],
    ) -> dict[K, list[T]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: Mapping[K, Query[R]],
        /,
        **options: Unpack[BoundRaising],
    ) -> dict[K, R]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: Mixed,
        /,
        **options: Unpack[BoundReturning],
    ) -> list[Any]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: list[Select[tuple[T]]],
        /,
        **options: Unpack[BoundReturning],
    ) -> list[Outcome[list[T]]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: list[Select[tuple[A, *C]]],
        /,
        **options: Unpack[BoundReturning],
    ) -> list[Any]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: list[Select[*tuple[T]]],
        /,
        **options: Unpack[BoundReturning],
    ) -> list[Outcome[list[T]]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: list[Select[A, B, *C]],
        /,
        **options: Unpack[BoundReturning],
    ) -> list[Outcome[Rows[A, B, *C]]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: list[LegacyQuery[T]],
        /,
        **options: Unpack[BoundReturning],
    ) -> list[Outcome[list[T]]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: list[Query[R]],
        /,
        **options: Unpack[BoundReturning],
    ) -> list[Outcome[R]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: AsyncFunctions[R],
        /,
        **options: Unpack[BoundReturning],
    ) -> list[Outcome[R]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: Functions[R],
        /,
        **options: Unpack[BoundReturning],
    ) -> list[Outcome[R]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: Mapping[K, Select[tuple[T]]],
        /,
        **options: Unpack[BoundReturning],
    ) -> dict[K, Outcome[list[T]]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: Mapping[K, Select[tuple[A, *C]]],
        /,
        **options: Unpack[BoundReturning],
    ) -> dict[K, Any]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: Mapping[K, Select[*tuple[T]]],
        /,
        **options: Unpack[BoundReturning],
    ) -> dict[K, Outcome[list[T]]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: Mapping[K, LegacyQuery[T]],
        /,
        **options: Unpack[BoundReturning],
    ) -> dict[K, Outcome[list[T]]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: Mapping[K, Query[R]],
        /,
        **options: Unpack[BoundReturning],
    ) -> dict[K, Outcome[R]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: list[Any],
        /,
        **options: Unpack[BoundEither],
    ) -> list[Any]: ...
    @overload
    @staticmethod
    async def gather_queries(
        queries: Mapping[K, object],
        /,
        **options: Unpack[BoundEither],
    ) -> dict[K, Any]: ...
    @overload
    @staticmethod
    async def gather_queries(
        **options: Unpack[BoundEither],
    ) -> tuple[()]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Given[T1, R1],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Several[*C1],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Given[T1, R1],
        q2: Given[T2, R2],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, R2]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Several[*C1],
        q2: Given[T2, R2],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], R2]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Given[T1, R1],
        q2: Several[*C2],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, Rows[*C2]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Several[*C1],
        q2: Several[*C2],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], Rows[*C2]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Given[T1, R1],
        q2: Given[T2, R2],
        q3: Given[T3, R3],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, R2, R3]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Several[*C1],
        q2: Given[T2, R2],
        q3: Given[T3, R3],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], R2, R3]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Given[T1, R1],
        q2: Several[*C2],
        q3: Given[T3, R3],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, Rows[*C2], R3]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Given[T1, R1],
        q2: Given[T2, R2],
        q3: Several[*C3],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, R2, Rows[*C3]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Several[*C1],
        q2: Several[*C2],
        q3: Given[T3, R3],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], Rows[*C2], R3]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Several[*C1],
        q2: Given[T2, R2],
        q3: Several[*C3],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], R2, Rows[*C3]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Given[T1, R1],
        q2: Several[*C2],
        q3: Several[*C3],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, Rows[*C2], Rows[*C3]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Several[*C1],
        q2: Several[*C2],
        q3: Several[*C3],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], Rows[*C2], Rows[*C3]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Given[T1, R1],
        q2: Given[T2, R2],
        q3: Given[T3, R3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, R2, R3, R4]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Several[*C1],
        q2: Given[T2, R2],
        q3: Given[T3, R3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], R2, R3, R4]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Given[T1, R1],
        q2: Several[*C2],
        q3: Given[T3, R3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, Rows[*C2], R3, R4]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Given[T1, R1],
        q2: Given[T2, R2],
        q3: Several[*C3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, R2, Rows[*C3], R4]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Given[T1, R1],
        q2: Given[T2, R2],
        q3: Given[T3, R3],
        q4: Several[*C4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, R2, R3, Rows[*C4]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Several[*C1],
        q2: Several[*C2],
        q3: Given[T3, R3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], Rows[*C2], R3, R4]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Several[*C1],
        q2: Given[T2, R2],
        q3: Several[*C3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], R2, Rows[*C3], R4]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Several[*C1],
        q2: Given[T2, R2],
        q3: Given[T3, R3],
        q4: Several[*C4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], R2, R3, Rows[*C4]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Given[T1, R1],
        q2: Several[*C2],
        q3: Several[*C3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, Rows[*C2], Rows[*C3], R4]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Given[T1, R1],
        q2: Several[*C2],
        q3: Given[T3, R3],
        q4: Several[*C4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, Rows[*C2], R3, Rows[*C4]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Given[T1, R1],
        q2: Given[T2, R2],
        q3: Several[*C3],
        q4: Several[*C4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, R2, Rows[*C3], Rows[*C4]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Several[*C1],
        q2: Several[*C2],
        q3: Several[*C3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], Rows[*C2], Rows[*C3], R4]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Several[*C1],
        q2: Several[*C2],
        q3: Given[T3, R3],
        q4: Several[*C4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], Rows[*C2], R3, Rows[*C4]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Several[*C1],
        q2: Given[T2, R2],
        q3: Several[*C3],
        q4: Several[*C4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], R2, Rows[*C3], Rows[*C4]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Given[T1, R1],
        q2: Several[*C2],
        q3: Several[*C3],
        q4: Several[*C4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, Rows[*C2], Rows[*C3], Rows[*C4]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Several[*C1],
        q2: Several[*C2],
        q3: Several[*C3],
        q4: Several[*C4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], Rows[*C2], Rows[*C3], Rows[*C4]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, R2, R3, R4, R5]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        q6: Unnamed[T6, R6],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, R2, R3, R4, R5, R6]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        q6: Unnamed[T6, R6],
        q7: Unnamed[T7, R7],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, R2, R3, R4, R5, R6, R7]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        q6: Unnamed[T6, R6],
        q7: Unnamed[T7, R7],
        q8: Unnamed[T8, R8],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, R2, R3, R4, R5, R6, R7, R8]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Unnamed[T1, R1],
        /,
        **options: Unpack[BoundReturning],
    ) -> tuple[Outcome[R1]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        /,
        **options: Unpack[BoundReturning],
    ) -> tuple[Outcome[R1], Outcome[R2]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        /,
        **options: Unpack[BoundReturning],
    ) -> tuple[Outcome[R1], Outcome[R2], Outcome[R3]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        /,
        **options: Unpack[BoundReturning],
    ) -> tuple[Outcome[R1], Outcome[R2], Outcome[R3], Outcome[R4]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        /,
        **options: Unpack[BoundReturning],
    ) -> tuple[Outcome[R1], Outcome[R2], Outcome[R3], Outcome[R4], Outcome[R5]]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        q6: Unnamed[T6, R6],
        /,
        **options: Unpack[BoundReturning],
    ) -> tuple[
        Outcome[R1],
        Outcome[R2],
        Outcome[R3],
        Outcome[R4],
        Outcome[R5],
        Outcome[R6],
    ]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        q6: Unnamed[T6, R6],
        q7: Unnamed[T7, R7],
        /,
        **options: Unpack[BoundReturning],
    ) -> tuple[
        Outcome[R1],
        Outcome[R2],
        Outcome[R3],
        Outcome[R4],
        Outcome[R5],
        Outcome[R6],
        Outcome[R7],
    ]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        q6: Unnamed[T6, R6],
        q7: Unnamed[T7, R7],
        q8: Unnamed[T8, R8],
        /,
        **options: Unpack[BoundReturning],
    ) -> tuple[
        Outcome[R1],
        Outcome[R2],
        Outcome[R3],
        Outcome[R4],
        Outcome[R5],
        Outcome[R6],
        Outcome[R7],
        Outcome[R8],
    ]: ...
    @overload
    @staticmethod
    async def gather_queries(
        query: Single,
        /,
        **options: Unpack[BoundEither],
    ) -> tuple[Any, ...]: ...
    @overload
    @staticmethod
    async def gather_queries(
        q1: Any,
        q2: Any,
        /,
        *more: Any,
        **options: Unpack[BoundEither],
    ) -> tuple[Any, ...]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: Mixed,
        /,
        **options: Unpack[BoundRaising],
    ) -> list[Any]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: list[Select[tuple[T]]],
        /,
        **options: Unpack[BoundRaising],
    ) -> list[list[T]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: list[Select[tuple[A, *C]]],
        /,
        **options: Unpack[BoundRaising],
    ) -> list[Any]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: list[Select[*tuple[T]]],
        /,
        **options: Unpack[BoundRaising],
    ) -> list[list[T]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: list[Select[A, B, *C]],
        /,
        **options: Unpack[BoundRaising],
    ) -> list[Rows[A, B, *C]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: list[LegacyQuery[T]],
        /,
        **options: Unpack[BoundRaising],
    ) -> list[list[T]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: list[Query[R]],
        /,
        **options: Unpack[BoundRaising],
    ) -> list[R]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: AsyncFunctions[R],
        /,
        **options: Unpack[BoundRaising],
    ) -> list[R]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: Functions[R],
        /,
        **options: Unpack[BoundRaising],
    ) -> list[R]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: Mapping[K, Select[tuple[T]]],
        /,
        **options: Unpack[BoundRaising],
    ) -> dict[K, list[T]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: Mapping[K, Select[tuple[A, *C]]],
        /,
        **options: Unpack[BoundRaising],
    ) -> dict[K, Any]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: Mapping[K, Select[*tuple[T]]],
        /,
        **options: Unpack[BoundRaising],
    ) -> dict[K, list[T]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: Mapping[K, LegacyQuery[T]],
        /,
        **options: Unpack[BoundRaising],
    ) -> dict[K, list[T]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: Mapping[K, Query[R]],
        /,
        **options: Unpack[BoundRaising],
    ) -> dict[K, R]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: Mixed,
        /,
        **options: Unpack[BoundReturning],
    ) -> list[Any]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: list[Select[tuple[T]]],
        /,
        **options: Unpack[BoundReturning],
    ) -> list[Outcome[list[T]]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: list[Select[tuple[A, *C]]],
        /,
        **options: Unpack[BoundReturning],
    ) -> list[Any]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: list[Select[*tuple[T]]],
        /,
        **options: Unpack[BoundReturning],
    ) -> list[Outcome[list[T]]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: list[Select[A, B, *C]],
        /,
        **options: Unpack[BoundReturning],
    ) -> list[Outcome[Rows[A, B, *C]]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: list[LegacyQuery[T]],
        /,
        **options: Unpack[BoundReturning],
    ) -> list[Outcome[list[T]]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: list[Query[R]],
        /,
        **options: Unpack[BoundReturning],
    ) -> list[Outcome[R]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: AsyncFunctions[R],
        /,
        **options: Unpack[BoundReturning],
    ) -> list[Outcome[R]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: Functions[R],
        /,
        **options: Unpack[BoundReturning],
    ) -> list[Outcome[R]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: Mapping[K, Select[tuple[T]]],
        /,
        **options: Unpack[BoundReturning],
    ) -> dict[K, Outcome[list[T]]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: Mapping[K, Select[tuple[A, *C]]],
        /,
        **options: Unpack[BoundReturning],
    ) -> dict[K, Any]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: Mapping[K, Select[*tuple[T]]],
        /,
        **options: Unpack[BoundReturning],
    ) -> dict[K, Outcome[list[T]]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: Mapping[K, LegacyQuery[T]],
        /,
        **options: Unpack[BoundReturning],
    ) -> dict[K, Outcome[list[T]]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: Mapping[K, Query[R]],
        /,
        **options: Unpack[BoundReturning],
    ) -> dict[K, Outcome[R]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: list[Any],
        /,
        **options: Unpack[BoundEither],
    ) -> list[Any]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        queries: Mapping[K, object],
        /,
        **options: Unpack[BoundEither],
    ) -> dict[K, Any]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        **options: Unpack[BoundEither],
    ) -> tuple[()]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Given[T1, R1],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Several[*C1],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Given[T1, R1],
        q2: Given[T2, R2],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, R2]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Several[*C1],
        q2: Given[T2, R2],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], R2]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Given[T1, R1],
        q2: Several[*C2],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, Rows[*C2]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Several[*C1],
        q2: Several[*C2],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], Rows[*C2]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Given[T1, R1],
        q2: Given[T2, R2],
        q3: Given[T3, R3],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, R2, R3]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Several[*C1],
        q2: Given[T2, R2],
        q3: Given[T3, R3],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], R2, R3]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Given[T1, R1],
        q2: Several[*C2],
        q3: Given[T3, R3],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, Rows[*C2], R3]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Given[T1, R1],
        q2: Given[T2, R2],
        q3: Several[*C3],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, R2, Rows[*C3]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Several[*C1],
        q2: Several[*C2],
        q3: Given[T3, R3],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], Rows[*C2], R3]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Several[*C1],
        q2: Given[T2, R2],
        q3: Several[*C3],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], R2, Rows[*C3]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Given[T1, R1],
        q2: Several[*C2],
        q3: Several[*C3],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, Rows[*C2], Rows[*C3]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Several[*C1],
        q2: Several[*C2],
        q3: Several[*C3],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], Rows[*C2], Rows[*C3]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Given[T1, R1],
        q2: Given[T2, R2],
        q3: Given[T3, R3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, R2, R3, R4]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Several[*C1],
        q2: Given[T2, R2],
        q3: Given[T3, R3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], R2, R3, R4]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Given[T1, R1],
        q2: Several[*C2],
        q3: Given[T3, R3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, Rows[*C2], R3, R4]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Given[T1, R1],
        q2: Given[T2, R2],
        q3: Several[*C3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, R2, Rows[*C3], R4]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Given[T1, R1],
        q2: Given[T2, R2],
        q3: Given[T3, R3],
        q4: Several[*C4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, R2, R3, Rows[*C4]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Several[*C1],
        q2: Several[*C2],
        q3: Given[T3, R3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], Rows[*C2], R3, R4]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Several[*C1],
        q2: Given[T2, R2],
        q3: Several[*C3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], R2, Rows[*C3], R4]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Several[*C1],
        q2: Given[T2, R2],
        q3: Given[T3, R3],
        q4: Several[*C4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], R2, R3, Rows[*C4]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Given[T1, R1],
        q2: Several[*C2],
        q3: Several[*C3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, Rows[*C2], Rows[*C3], R4]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Given[T1, R1],
        q2: Several[*C2],
        q3: Given[T3, R3],
        q4: Several[*C4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, Rows[*C2], R3, Rows[*C4]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Given[T1, R1],
        q2: Given[T2, R2],
        q3: Several[*C3],
        q4: Several[*C4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, R2, Rows[*C3], Rows[*C4]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Several[*C1],
        q2: Several[*C2],
        q3: Several[*C3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], Rows[*C2], Rows[*C3], R4]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Several[*C1],
        q2: Several[*C2],
        q3: Given[T3, R3],
        q4: Several[*C4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], Rows[*C2], R3, Rows[*C4]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Several[*C1],
        q2: Given[T2, R2],
        q3: Several[*C3],
        q4: Several[*C4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], R2, Rows[*C3], Rows[*C4]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Given[T1, R1],
        q2: Several[*C2],
        q3: Several[*C3],
        q4: Several[*C4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, Rows[*C2], Rows[*C3], Rows[*C4]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Several[*C1],
        q2: Several[*C2],
        q3: Several[*C3],
        q4: Several[*C4],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[Rows[*C1], Rows[*C2], Rows[*C3], Rows[*C4]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, R2, R3, R4, R5]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        q6: Unnamed[T6, R6],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, R2, R3, R4, R5, R6]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        q6: Unnamed[T6, R6],
        q7: Unnamed[T7, R7],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, R2, R3, R4, R5, R6, R7]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        q6: Unnamed[T6, R6],
        q7: Unnamed[T7, R7],
        q8: Unnamed[T8, R8],
        /,
        **options: Unpack[BoundRaising],
    ) -> tuple[R1, R2, R3, R4, R5, R6, R7, R8]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Unnamed[T1, R1],
        /,
        **options: Unpack[BoundReturning],
    ) -> tuple[Outcome[R1]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        /,
        **options: Unpack[BoundReturning],
    ) -> tuple[Outcome[R1], Outcome[R2]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        /,
        **options: Unpack[BoundReturning],
    ) -> tuple[Outcome[R1], Outcome[R2], Outcome[R3]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        /,
        **options: Unpack[BoundReturning],
    ) -> tuple[Outcome[R1], Outcome[R2], Outcome[R3], Outcome[R4]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        /,
        **options: Unpack[BoundReturning],
    ) -> tuple[Outcome[R1], Outcome[R2], Outcome[R3], Outcome[R4], Outcome[R5]]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        q6: Unnamed[T6, R6],
        /,
        **options: Unpack[BoundReturning],
    ) -> tuple[
        Outcome[R1],
        Outcome[R2],
        Outcome[R3],
        Outcome[R4],
        Outcome[R5],
        Outcome[R6],
    ]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        q6: Unnamed[T6, R6],
        q7: Unnamed[T7, R7],
        /,
        **options: Unpack[BoundReturning],
    ) -> tuple[
        Outcome[R1],
        Outcome[R2],
        Outcome[R3],
        Outcome[R4],
        Outcome[R5],
        Outcome[R6],
        Outcome[R7],
    ]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        q6: Unnamed[T6, R6],
        q7: Unnamed[T7, R7],
        q8: Unnamed[T8, R8],
        /,
        **options: Unpack[BoundReturning],
    ) -> tuple[
        Outcome[R1],
        Outcome[R2],
        Outcome[R3],
        Outcome[R4],
        Outcome[R5],
        Outcome[R6],
        Outcome[R7],
        Outcome[R8],
    ]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        query: Single,
        /,
        **options: Unpack[BoundEither],
    ) -> tuple[Any, ...]: ...
    @overload
    @staticmethod
    def run_in_parallel(
        q1: Any,
        q2: Any,
        /,
        *more: Any,
        **options: Unpack[BoundEither],
    ) -> tuple[Any, ...]: ...
    @overload
    async def gather(
        self: object,
        queries: Mixed,
        /,
        **options: Unpack[Raising],
    ) -> list[Any]: ...
    @overload
    async def gather(
        self: object,
        queries: list[Select[tuple[T]]],
        /,
        **options: Unpack[Raising],
    ) -> list[list[T]]: ...
    @overload
    async def gather(
        self: object,
        queries: list[Select[tuple[A, *C]]],
        /,
        **options: Unpack[Raising],
    ) -> list[Any]: ...
    @overload
    async def gather(
        self: object,
        queries: list[Select[*tuple[T]]],
        /,
        **options: Unpack[Raising],
    ) -> list[list[T]]: ...
    @overload
    async def gather(
        self: object,
        queries: list[Select[A, B, *C]],
        /,
        **options: Unpack[Raising],
    ) -> list[Rows[A, B, *C]]: ...
    @overload
    async def gather(
        self: object,
        queries: list[LegacyQuery[T]],
        /,
        **options: Unpack[Raising],
    ) -> list[list[T]]: ...
    @overload
    async def gather(
        self: object,
        queries: list[Query[R]],
        /,
        **options: Unpack[Raising],
    ) -> list[R]: ...
    @overload
    async def gather(
        self: object,
        queries: AsyncFunctions[R],
        /,
        **options: Unpack[Raising],
    ) -> list[R]: ...
    @overload
    async def gather(
        self: object,
        queries: Functions[R],
        /,
        **options: Unpack[Raising],
    ) -> list[R]: ...
    @overload
    async def gather(
        self: object,
        queries: Mapping[K, Select[tuple[T]]],
        /,
        **options: Unpack[Raising],
    ) -> dict[K, list[T]]: ...
    @overload
    async def gather(
        self: object,
        queries: Mapping[K, Select[tuple[A, *C]]],
        /,
        **options: Unpack[Raising],
    ) -> dict[K, Any]: ...
    @overload
    async def gather(
        self: object,
        queries: Mapping[K, Select[*tuple[T]]],
        /,
        **options: Unpack[Raising],
    ) -> dict[K, list[T]]: ...
    @overload
    async def gather(
        self: object,
        queries: Mapping[K, LegacyQuery[T]],
        /,
        **options: Unpack[Raising],
    ) -> dict[K, list[T]]: ...
    @overload
    async def gather(
        self: object,
        queries: Mapping[K, Query[R]],
        /,
        **options: Unpack[Raising],
    ) -> dict[K, R]: ...
    @overload
    async def gather(
        self: object,
        queries: Mixed,
        /,
        **options: Unpack[Returning],
    ) -> list[Any]: ...
    @overload
    async def gather(
        self: object,
        queries: list[Select[tuple[T]]],
        /,
        **options: Unpack[Returning],
    ) -> list[Outcome[list[T]]]: ...
    @overload
    async def gather(
        self: object,
        queries: list[Select[tuple[A, *C]]],
        /,
        **options: Unpack[Returning],
    ) -> list[Any]: ...
    @overload
    async def gather(
        self: object,
        queries: list[Select[*tuple[T]]],
        /,
        **options: Unpack[Returning],
    ) -> list[Outcome[list[T]]]: ...
    @overload
    async def gather(
        self: object,
        queries: list[Select[A, B, *C]],
        /,
        **options: Unpack[Returning],
    ) -> list[Outcome[Rows[A, B, *C]]]: ...
    @overload
    async def gather(
        self: object,
        queries: list[LegacyQuery[T]],
        /,
        **options: Unpack[Returning],
    ) -> list[Outcome[list[T]]]: ...
    @overload
    async def gather(
        self: object,
        queries: list[Query[R]],
        /,
        **options: Unpack[Returning],
    ) -> list[Outcome[R]]: ...
    @overload
    async def gather(
        self: object,
        queries: AsyncFunctions[R],
        /,
        **options: Unpack[Returning],
    ) -> list[Outcome[R]]: ...
    @overload
    async def gather(
        self: object,
        queries: Functions[R],
        /,
        **options: Unpack[Returning],
    ) -> list[Outcome[R]]: ...
    @overload
    async def gather(
        self: object,
        queries: Mapping[K, Select[tuple[T]]],
        /,
        **options: Unpack[Returning],
    ) -> dict[K, Outcome[list[T]]]: ...
    @overload
    async def gather(
        self: object,
        queries: Mapping[K, Select[tuple[A, *C]]],
        /,
        **options: Unpack[Returning],
    ) -> dict[K, Any]: ...
    @overload
    async def gather(
        self: object,
        queries: Mapping[K, Select[*tuple[T]]],
        /,
        **options: Unpack[Returning],
    ) -> dict[K, Outcome[list[T]]]: ...
    @overload
    async def gather(
        self: object,
        queries: Mapping[K, LegacyQuery[T]],
        /,
        **options: Unpack[Returning],
    ) -> dict[K, Outcome[list[T]]]: ...
    @overload
    async def gather(
        self: object,
        queries: Mapping[K, Query[R]],
        /,
        **options: Unpack[Returning],
    ) -> dict[K, Outcome[R]]: ...
    @overload
    async def gather(
        self: object,
        queries: list[Any],
        /,
        **options: Unpack[Either],
    ) -> list[Any]: ...
    @overload
    async def gather(
        self: object,
        queries: Mapping[K, object],
        /,
        **options: Unpack[Either],
    ) -> dict[K, Any]: ...
    @overload
    async def gather(
        self: object,
        **options: Unpack[Either],
    ) -> tuple[()]: ...
    @overload
    async def gather(
        self: object,
        q1: Given[T1, R1],
        /,
        **options: Unpack[Raising],
    ) -> tuple[R1]: ...
    @overload
    async def gather(
        self: object,
        q1: Several[*C1],
        /,
        **options: Unpack[Raising],
    ) -> tuple[Rows[*C1]]: ...
    @overload
    async def gather(
        self: object,
        q1: Given[T1, R1],
        q2: Given[T2, R2],
        /,
        **options: Unpack[Raising],
    ) -> tuple[R1, R2]: ...
    @overload
    async def gather(
        self: object,
        q1: Several[*C1],
        q2: Given[T2, R2],
        /,
        **options: Unpack[Raising],
    ) -> tuple[Rows[*C1], R2]: ...
    @overload
    async def gather(
        self: object,
        q1: Given[T1, R1],
        q2: Several[*C2],
        /,
        **options: Unpack[Raising],
    ) -> tuple[R1, Rows[*C2]]: ...
    @overload
    async def gather(
        self: object,
        q1: Several[*C1],
        q2: Several[*C2],
        /,
        **options: Unpack[Raising],
    ) -> tuple[Rows[*C1], Rows[*C2]]: ...
    @overload
    async def gather(
        self: object,
        q1: Given[T1, R1],
        q2: Given[T2, R2],
        q3: Given[T3, R3],
        /,
        **options: Unpack[Raising],
    ) -> tuple[R1, R2, R3]: ...
    @overload
    async def gather(
        self: object,
        q1: Several[*C1],
        q2: Given[T2, R2],
        q3: Given[T3, R3],
        /,
        **options: Unpack[Raising],
    ) -> tuple[Rows[*C1], R2, R3]: ...
    @overload
    async def gather(
        self: object,
        q1: Given[T1, R1],
        q2: Several[*C2],
        q3: Given[T3, R3],
        /,
        **options: Unpack[Raising],
    ) -> tuple[R1, Rows[*C2], R3]: ...
    @overload
    async def gather(
        self: object,
        q1: Given[T1, R1],
        q2: Given[T2, R2],
        q3: Several[*C3],
        /,
        **options: Unpack[Raising],
    ) -> tuple[R1, R2, Rows[*C3]]: ...
    @overload
    async def gather(
        self: object,
        q1: Several[*C1],
        q2: Several[*C2],
        q3: Given[T3, R3],
        /,
        **options: Unpack[Raising],
    ) -> tuple[Rows[*C1], Rows[*C2], R3]: ...
    @overload
    async def gather(
        self: object,
        q1: Several[*C1],
        q2: Given[T2, R2],
        q3: Several[*C3],
        /,
        **options: Unpack[Raising],
    ) -> tuple[Rows[*C1], R2, Rows[*C3]]: ...
    @overload
    async def gather(
        self: object,
        q1: Given[T1, R1],
        q2: Several[*C2],
        q3: Several[*C3],
        /,
        **options: Unpack[Raising],
    ) -> tuple[R1, Rows[*C2], Rows[*C3]]: ...
    @overload
    async def gather(
        self: object,
        q1: Several[*C1],
        q2: Several[*C2],
        q3: Several[*C3],
        /,
        **options: Unpack[Raising],
    ) -> tuple[Rows[*C1], Rows[*C2], Rows[*C3]]: ...
    @overload
    async def gather(
        self: object,
        q1: Given[T1, R1],
        q2: Given[T2, R2],
        q3: Given[T3, R3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[Raising],
    ) -> tuple[R1, R2, R3, R4]: ...
    @overload
    async def gather(
        self: object,
        q1: Several[*C1],
        q2: Given[T2, R2],
        q3: Given[T3, R3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[Raising],
    ) -> tuple[Rows[*C1], R2, R3, R4]: ...
    @overload
    async def gather(
        self: object,
        q1: Given[T1, R1],
        q2: Several[*C2],
        q3: Given[T3, R3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[Raising],
    ) -> tuple[R1, Rows[*C2], R3, R4]: ...
    @overload
    async def gather(
        self: object,
        q1: Given[T1, R1],
        q2: Given[T2, R2],
        q3: Several[*C3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[Raising],
    ) -> tuple[R1, R2, Rows[*C3], R4]: ...
    @overload
    async def gather(
        self: object,
        q1: Given[T1, R1],
        q2: Given[T2, R2],
        q3: Given[T3, R3],
        q4: Several[*C4],
        /,
        **options: Unpack[Raising],
    ) -> tuple[R1, R2, R3, Rows[*C4]]: ...
    @overload
    async def gather(
        self: object,
        q1: Several[*C1],
        q2: Several[*C2],
        q3: Given[T3, R3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[Raising],
    ) -> tuple[Rows[*C1], Rows[*C2], R3, R4]: ...
    @overload
    async def gather(
        self: object,
        q1: Several[*C1],
        q2: Given[T2, R2],
        q3: Several[*C3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[Raising],
    ) -> tuple[Rows[*C1], R2, Rows[*C3], R4]: ...
    @overload
    async def gather(
        self: object,
        q1: Several[*C1],
        q2: Given[T2, R2],
        q3: Given[T3, R3],
        q4: Several[*C4],
        /,
        **options: Unpack[Raising],
    ) -> tuple[Rows[*C1], R2, R3, Rows[*C4]]: ...
    @overload
    async def gather(
        self: object,
        q1: Given[T1, R1],
        q2: Several[*C2],
        q3: Several[*C3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[Raising],
    ) -> tuple[R1, Rows[*C2], Rows[*C3], R4]: ...
    @overload
    async def gather(
        self: object,
        q1: Given[T1, R1],
        q2: Several[*C2],
        q3: Given[T3, R3],
        q4: Several[*C4],
        /,
        **options: Unpack[Raising],
    ) -> tuple[R1, Rows[*C2], R3, Rows[*C4]]: ...
    @overload
    async def gather(
        self: object,
        q1: Given[T1, R1],
        q2: Given[T2, R2],
        q3: Several[*C3],
        q4: Several[*C4],
        /,
        **options: Unpack[Raising],
    ) -> tuple[R1, R2, Rows[*C3], Rows[*C4]]: ...
    @overload
    async def gather(
        self: object,
        q1: Several[*C1],
        q2: Several[*C2],
        q3: Several[*C3],
        q4: Given[T4, R4],
        /,
        **options: Unpack[Raising],
    ) -> tuple[Rows[*C1], Rows[*C2], Rows[*C3], R4]: ...
    @overload
    async def gather(
        self: object,
        q1: Several[*C1],
        q2: Several[*C2],
        q3: Given[T3, R3],
        q4: Several[*C4],
        /,
        **options: Unpack[Raising],
    ) -> tuple[Rows[*C1], Rows[*C2], R3, Rows[*C4]]: ...
    @overload
    async def gather(
        self: object,
        q1: Several[*C1],
        q2: Given[T2, R2],
        q3: Several[*C3],
        q4: Several[*C4],
        /,
        **options: Unpack[Raising],
    ) -> tuple[Rows[*C1], R2, Rows[*C3], Rows[*C4]]: ...
    @overload
    async def gather(
        self: object,
        q1: Given[T1, R1],
        q2: Several[*C2],
        q3: Several[*C3],
        q4: Several[*C4],
        /,
        **options: Unpack[Raising],
    ) -> tuple[R1, Rows[*C2], Rows[*C3], Rows[*C4]]: ...
    @overload
    async def gather(
        self: object,
        q1: Several[*C1],
        q2: Several[*C2],
        q3: Several[*C3],
        q4: Several[*C4],
        /,
        **options: Unpack[Raising],
    ) -> tuple[Rows[*C1], Rows[*C2], Rows[*C3], Rows[*C4]]: ...
    @overload
    async def gather(
        self: object,
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        /,
        **options: Unpack[Raising],
    ) -> tuple[R1, R2, R3, R4, R5]: ...
    @overload
    async def gather(
        self: object,
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        q6: Unnamed[T6, R6],
        /,
        **options: Unpack[Raising],
    ) -> tuple[R1, R2, R3, R4, R5, R6]: ...
    @overload
    async def gather(
        self: object,
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        q6: Unnamed[T6, R6],
        q7: Unnamed[T7, R7],
        /,
        **options: Unpack[Raising],
    ) -> tuple[R1, R2, R3, R4, R5, R6, R7]: ...
    @overload
    async def gather(
        self: object,
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        q6: Unnamed[T6, R6],
        q7: Unnamed[T7, R7],
        q8: Unnamed[T8, R8],
        /,
        **options: Unpack[Raising],
    ) -> tuple[R1, R2, R3, R4, R5, R6, R7, R8]: ...
    @overload
    async def gather(
        self: object,
        q1: Unnamed[T1, R1],
        /,
        **options: Unpack[Returning],
    ) -> tuple[Outcome[R1]]: ...
    @overload
    async def gather(
        self: object,
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        /,
        **options: Unpack[Returning],
    ) -> tuple[Outcome[R1], Outcome[R2]]: ...
    @overload
    async def gather(
        self: object,
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        /,
        **options: Unpack[Returning],
    ) -> tuple[Outcome[R1], Outcome[R2], Outcome[R3]]: ...
    @overload
    async def gather(
        self: object,
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        /,
        **options: Unpack[Returning],
    ) -> tuple[Outcome[R1], Outcome[R2], Outcome[R3], Outcome[R4]]: ...
    @overload
    async def gather(
        self: object,
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        /,
        **options: Unpack[Returning],
    ) -> tuple[Outcome[R1], Outcome[R2], Outcome[R3], Outcome[R4], Outcome[R5]]: ...
    @overload
    async def gather(
        self: object,
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        q6: Unnamed[T6, R6],
        /,
        **options: Unpack[Returning],
    ) -> tuple[
        Outcome[R1],
        Outcome[R2],
        Outcome[R3],
        Outcome[R4],
        Outcome[R5],
        Outcome[R6],
    ]: ...
    @overload
    async def gather(
        self: object,
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        q6: Unnamed[T6, R6],
        q7: Unnamed[T7, R7],
        /,
        **options: Unpack[Returning],
    ) -> tuple[
        Outcome[R1],
        Outcome[R2],
        Outcome[R3],
        Outcome[R4],
        Outcome[R5],
        Outcome[R6],
        Outcome[R7],
    ]: ...
    @overload
    async def gather(
        self: object,
        q1: Unnamed[T1, R1],
        q2: Unnamed[T2, R2],
        q3: Unnamed[T3, R3],
        q4: Unnamed[T4, R4],
        q5: Unnamed[T5, R5],
        q6: Unnamed[T6, R6],
        q7: Unnamed[T7, R7],
        q8: Unnamed[T8, R8],
        /,
        **options: Unpack[Returning],
    ) -> tuple[
        Outcome[R1],
        Outcome[R2],
        Outcome[R3],
        Outcome[R4],
        Outcome[R5],
        Outcome[R6],
        Outcome[R7],
        Outcome[R8],
    ]: ...
    @overload
    async def gather(
        self: object,
        query: Single,
        /,
        **options: Unpack[Either],
    ) -> tuple[Any, ...]: ...
    @overload
    async def gather(
        self: object,
        q1: Any,
        q2: Any,
        /,
        *more: Any,
        **options: Unpack[Either],
    ) -> tuple[Any, ...]: ...
    @overload
    def as_completed(
        self: object,
        queries: Mixed,
        /,
        **options: Unpack[Raising],
    ) -> AsyncGenerator[tuple[int, Any]]: ...
    @overload
    def as_completed(
        self: object,
        queries: list[Select[tuple[T]]],
        /,
        **options: Unpack[Raising],
    ) -> AsyncGenerator[tuple[int, list[T]]]: ...
    @overload
    def as_completed(
        self: object,
        queries: list[Select[tuple[A, *C]]],
        /,
        **options: Unpack[Raising],
    ) -> AsyncGenerator[tuple[int, Any]]: ...
    @overload
    def as_completed(
        self: object,
        queries: list[Select[*tuple[T]]],
        /,
        **options: Unpack[Raising],
    ) -> AsyncGenerator[tuple[int, list[T]]]: ...
    @overload
    def as_completed(
        self: object,
        queries: list[Select[A, B, *C]],
        /,
        **options: Unpack[Raising],
    ) -> AsyncGenerator[tuple[int, Rows[A, B, *C]]]: ...
    @overload
    def as_completed(
        self: object,
        queries: list[LegacyQuery[T]],
        /,
        **options: Unpack[Raising],
    ) -> AsyncGenerator[tuple[int, list[T]]]: ...
    @overload
    def as_completed(
        self: object,
        queries: list[Query[R]],
        /,
        **options: Unpack[Raising],
    ) -> AsyncGenerator[tuple[int, R]]: ...
    @overload
    def as_completed(
        self: object,
        queries: AsyncFunctions[R],
        /,
        **options: Unpack[Raising],
    ) -> AsyncGenerator[tuple[int, R]]: ...
    @overload
    def as_completed(
        self: object,
        queries: Functions[R],
        /,
        **options: Unpack[Raising],
    ) -> AsyncGenerator[tuple[int, R]]: ...
    @overload
    def as_completed(
        self: object,
        queries: Mapping[K, Select[tuple[T]]],
        /,
        **options: Unpack[Raising],
    ) -> AsyncGenerator[tuple[K, list[T]]]: ...
    @overload
    def as_completed(
        self: object,
        queries: Mapping[K, Select[tuple[A, *C]]],
        /,
        **options: Unpack[Raising],
    ) -> AsyncGenerator[tuple[K, Any]]: ...
    @overload
    def as_completed(
        self: object,
        queries: Mapping[K, Select[*tuple[T]]],
        /,
        **options: Unpack[Raising],
    ) -> AsyncGenerator[tuple[K, list[T]]]: ...
    @overload
    def as_completed(
        self: object,
        queries: Mapping[K, LegacyQuery[T]],
        /,
        **options: Unpack[Raising],
    ) -> AsyncGenerator[tuple[K, list[T]]]: ...
    @overload
    def as_completed(
        self: object,
        queries: Mapping[K, Query[R]],
        /,
        **options: Unpack[Raising],
    ) -> AsyncGenerator[tuple[K, R]]: ...
    @overload
    def as_completed(
        self: object,
        queries: Mixed,
        /,
        **options: Unpack[Returning],
    ) -> AsyncGenerator[tuple[int, Any]]: ...
    @overload
    def as_completed(
        self: object,
        queries: list[Select[tuple[T]]],
        /,
        **options: Unpack[Returning],
    ) -> AsyncGenerator[tuple[int, Outcome[list[T]]]]: ...
    @overload
    def as_completed(
        self: object,
        queries: list[Select[tuple[A, *C]]],
        /,
        **options: Unpack[Returning],
    ) -> AsyncGenerator[tuple[int, Any]]: ...
    @overload
    def as_completed(
        self: object,
        queries: list[Select[*tuple[T]]],
        /,
        **options: Unpack[Returning],
    ) -> AsyncGenerator[tuple[int, Outcome[list[T]]]]: ...
    @overload
    def as_completed(
        self: object,
        queries: list[Select[A, B, *C]],
        /,
        **options: Unpack[Returning],
    ) -> AsyncGenerator[tuple[int, Outcome[Rows[A, B, *C]]]]: ...
    @overload
    def as_completed(
        self: object,
        queries: list[LegacyQuery[T]],
        /,
        **options: Unpack[Returning],
    ) -> AsyncGenerator[tuple[int, Outcome[list[T]]]]: ...
    @overload
    def as_completed(
        self: object,
        queries: list[Query[R]],
        /,
        **options: Unpack[Returning],
    ) -> AsyncGenerator[tuple[int, Outcome[R]]]: ...
    @overload
    def as_completed(
        self: object,
        queries: AsyncFunctions[R],
        /,
        **options: Unpack[Returning],
    ) -> AsyncGenerator[tuple[int, Outcome[R]]]: ...
    @overload
    def as_completed(
        self: object,
        queries: Functions[R],
        /,
        **options: Unpack[Returning],
    ) -> AsyncGenerator[tuple[int, Outcome[R]]]: ...
    @overload
    def as_completed(
        self: object,
        queries: Mapping[K, Select[tuple[T]]],
        /,
        **options: Unpack[Returning],
    ) -> AsyncGenerator[tuple[K, Outcome[list[T]]]]: ...
    @overload
    def as_completed(
        self: object,
        queries: Mapping[K, Select[tuple[A, *C]]],
        /,
        **options: Unpack[Returning],
    ) -> AsyncGenerator[tuple[K, Any]]: ...
    @overload
    def as_completed(
        self: object,
        queries: Mapping[K, Select[*tuple[T]]],
        /,
        **options: Unpack[Returning],
    ) -> AsyncGenerator[tuple[K, Outcome[list[T]]]]: ...
    @overload
    def as_completed(
        self: object,
        queries: Mapping[K, LegacyQuery[T]],
        /,
        **options: Unpack[Returning],
    ) -> AsyncGenerator[tuple[K, Outcome[list[T]]]]: ...
    @overload
    def as_completed(
        self: object,
        queries: Mapping[K, Query[R]],
        /,
        **options: Unpack[Returning],
    ) -> AsyncGenerator[tuple[K, Outcome[R]]]: ...
    @overload
    def as_completed(
        self: object,
        queries: list[Any],
        /,
        **options: Unpack[Either],
    ) -> AsyncGenerator[tuple[int, Any]]: ...
    @overload
    def as_completed(
        self: object,
        queries: Mapping[K, object],
        /,
        **options: Unpack[Either],
    ) -> AsyncGenerator[tuple[K, Any]]: ...
    @overload
    def as_completed(
        self: object,
        query: Single,
        /,
        **options: Unpack[Either],
    ) -> AsyncGenerator[tuple[int, Any]]: ...
    @overload
    def as_completed(
        self: object,
        q1: Any,
        q2: Any,
        /,
        *more: Any,
        **options: Unpack[Either],
    ) -> AsyncGenerator[tuple[int, Any]]: ...
