"""The comparisons that were given to `promote`: each is stored, whether the model was promoted or not."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from schema.database import Database
from schema.operations import PresentedComparison
from worker.ledger.transactions import reading, writing


@dataclass(frozen=True)
class Presented:
    """One row of `presented_comparison`."""

    comparison_digest: str
    model_digest: str
    model_name: str
    against_digest: str
    is_accepted: bool
    says: str
    presented_by: str
    presented_at: datetime


def keep(database: Database, presented: Presented) -> None:
    """Append a row."""
    with writing(database) as session:
        session.add(PresentedComparison(**vars(presented)))


def every_one(database: Database) -> list[Presented]:
    """All comparisons, the oldest first."""
    table = PresentedComparison.__table__
    columns = [table.c[name] for name in Presented.__dataclass_fields__]
    with reading(database) as connection:
        return [Presented(*row) for row in connection.execute(select(*columns).order_by(table.c.id))]
