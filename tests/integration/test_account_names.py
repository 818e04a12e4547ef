"""Two accounts never have names that a person would take for the same."""

import pytest

from schema.vocabulary import Role
from tests.ledger import Ledger
from worker.ledger.reading_room import accounts
from worker.ledger.reading_room.accounts import AccountRefused


@pytest.mark.parametrize(
    ("name", "other"),
    [("Ann Lee", "ann lee"), ("Zoë", "ZOË"), ("Étienne", "étienne"), ("Ann Lee", "Ａnn Lee"), ("Straße", "STRASSE")],
)
def test_names_that_differ_in_case_or_encoding_alone_are_one(desk: Ledger, name: str, other: str) -> None:
    accounts.add(desk.database, name, Role.READER, None, "test", desk.clock())
    with pytest.raises(AccountRefused):
        accounts.add(desk.database, other, Role.READER, None, "test", desk.clock())
    accounts.add(desk.database, f"{name} 2", Role.READER, None, "test", desk.clock())
    assert {account.name for account in accounts.every(desk.database, desk.clock())} == {name, f"{name} 2"}
