"""Studies of a message are claimed and recorded in one transaction, and yet each ends by itself."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError

from schema.database import Database
from schema.vocabulary import Reason, Verdict
from tests.ledger import STUDY, Clock, Ledger, claim_one, record_one
from worker.ledger import decisions
from worker.ledger.screening import claims, outbox, verdicts
from worker.ledger.screening.outbox import Backlog
from worker.ledger.screening.results import Claim, Result
from worker.screening.rules import StudyVerdict

UIDS = [f"{STUDY}.{number}" for number in range(16)]

NOTHING_ELIGIBLE = StudyVerdict(Verdict.INELIGIBLE, Reason.OTHER_BODY_PART, "", None, None)


def claimed(desk: Ledger, count: int = len(UIDS)) -> list[Claim]:
    """Studies without an image that a model judged, claimed together."""
    for uid in UIDS[:count]:
        desk.receive(uid, content=uid)
    desk.clock.forward(1)
    desk.offer()
    found = claims.claim_all(desk.database, UIDS[:count], desk.settings, desk.clock)
    held = [claim for claim in found if isinstance(claim, Claim)]
    assert len(held) == count
    return held


def result(desk: Ledger, held: Claim) -> Result:
    return Result(replace(held, received=()), NOTHING_ELIGIBLE, [], [], desk.model, 0.5)


def transactions(database: Database) -> list[str]:
    """One word for each commit from now on."""
    committed: list[str] = []
    event.listen(database.engine, "commit", lambda _connection: committed.append("commit"))
    return committed


def test_sixteen_studies_cost_two_transactions(desk: Ledger) -> None:
    for uid in UIDS:
        desk.receive(uid, content=uid)
    desk.clock.forward(1)
    desk.offer()
    committed = transactions(desk.database)
    held = claims.claim_all(desk.database, UIDS, desk.settings, desk.clock)
    given = [result(desk, claim) for claim in held if isinstance(claim, Claim)]
    assert verdicts.record_all(desk.database, given, desk.clock()) == [True] * 16
    assert len(committed) == 2
    assert {desk.study(uid).state for uid in UIDS} == {"screened"}


def test_a_message_that_names_a_study_twice_claims_it_once(desk: Ledger) -> None:
    desk.receive(UIDS[0])
    desk.receive(UIDS[1], content="two")
    desk.clock.forward(1)
    desk.offer()
    asked = [UIDS[0], "1.2.3.unknown", UIDS[0], UIDS[1]]
    found = claims.claim_all(desk.database, asked, desk.settings, desk.clock)
    assert [claim is not None for claim in found] == [True, False, False, True]
    assert [desk.study(uid).attempts for uid in UIDS[:2]] == [1, 1]


def test_one_refused_row_among_sixteen_costs_the_others_nothing(desk: Ledger) -> None:
    held = claimed(desk)
    desk.refuse(UIDS[5])
    ends = verdicts.record_all(desk.database, [result(desk, claim) for claim in held], desk.clock())
    assert isinstance(ends[5], IntegrityError)
    assert ends[:5] + ends[6:] == [True] * 15
    assert desk.count("screening") == 15
    assert (desk.study(UIDS[5]).state, desk.study(UIDS[5]).claim) == ("screening", held[5].token)
    assert claims.fail(desk.database, held[5], "unexpected_error", "refused", desk.clock())


def without_findings(result: Result) -> Any:
    """A result that cannot be written for a bug, not for the database."""
    return replace(result, outcomes=None)  # type: ignore[arg-type]


def test_a_bug_with_one_row_among_sixteen_costs_the_others_nothing(desk: Ledger) -> None:
    held = claimed(desk)
    given = [result(desk, claim) for claim in held]
    given[5] = without_findings(given[5])
    ends = verdicts.record_all(desk.database, given, desk.clock())
    assert isinstance(ends[5], TypeError)
    assert ends[:5] + ends[6:] == [True] * 15
    assert desk.count("screening") == 15
    assert (desk.study(UIDS[5]).state, desk.study(UIDS[5]).claim) == ("screening", held[5].token)


def test_what_was_overtaken_is_dropped_and_the_others_are_recorded(desk: Ledger) -> None:
    held = claimed(desk, 5)
    desk.receive(UIDS[1], f"{UIDS[1]}.1.2", "another image")  # a newer revision
    claims.give_back_all(desk.database, [held[2]], desk.clock())
    again = claim_one(desk.database, UIDS[2], desk.settings, desk.clock())
    claims.fail(desk.database, held[3], "stopped", "", desk.clock())
    decisions.requeue(desk.database, UIDS[3], desk.settings, desk.clock())
    ends = verdicts.record_all(desk.database, [result(desk, claim) for claim in held], desk.clock())
    assert ends == [True, False, False, False, True]
    assert [desk.study(uid).state for uid in UIDS[:5]] == ["screened", "received", "screening", "received", "screened"]
    assert again is not None
    assert record_one(desk.database, result(desk, again), desk.clock())


def test_a_lapsed_lease_drops_its_study_alone(desk: Ledger) -> None:
    held = claimed(desk, 3)
    desk.clock.forward(desk.settings.lease_s + 1)
    claims.heartbeat(desk.database, [held[0].token], desk.settings, desk.clock())
    with desk.database.writing() as session:
        lapsed = text("UPDATE study SET lease_until = received_at WHERE study_uid = :uid")
        session.execute(lapsed, {"uid": UIDS[1]})
    assert claims.take_back_lapsed(desk.database, desk.settings, desk.clock()) == 1
    ends = verdicts.record_all(desk.database, [result(desk, claim) for claim in held], desk.clock())
    assert ends == [True, False, True]


@pytest.mark.parametrize("kind", ["postgresql"])
@pytest.mark.parametrize("code", ["40P01", "40001"])  # a deadlock, a failure to serialise
def test_a_transaction_that_the_server_ends_for_another_is_tried_again_study_by_study(desk: Ledger, code: str) -> None:
    held = claimed(desk, 4)
    with desk.database.writing() as session:
        session.execute(text("CREATE SEQUENCE tries"))  # which no rollback sets back
        session.execute(
            text(
                "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                f" IF nextval('tries') = 3 THEN RAISE EXCEPTION 'another one goes on' USING ERRCODE = '{code}'; END IF;"
                " RETURN NEW; END $$"
            )
        )
        session.execute(text("CREATE TRIGGER lose BEFORE INSERT ON screening FOR EACH ROW EXECUTE FUNCTION lose()"))
    given = [result(desk, claim) for claim in held]
    assert verdicts.record_all(desk.database, given, desk.clock()) == [True] * 4
    assert desk.count("screening") == 4


@pytest.mark.parametrize("kind", ["postgresql"])
def test_a_claim_that_the_server_refuses_leaves_the_other_claims(desk: Ledger) -> None:
    for uid in UIDS[:3]:
        desk.receive(uid, content=uid)
    desk.clock.forward(1)
    desk.offer()
    asked = [UIDS[0], "1.2\0.3", UIDS[1]]
    first, broken, second = claims.claim_all(desk.database, asked, desk.settings, desk.clock)
    assert isinstance(first, Claim)
    assert isinstance(second, Claim)
    assert isinstance(broken, Exception)


#: A worker process that claims the studies named, records the first two, and is killed at the moment named.
WORKER = """
import os, signal, sys
from sqlalchemy import event
from tests.integration.test_ledger_together import UIDS, result
from tests.ledger import Clock, Ledger
from datetime import datetime
from pathlib import Path
from schema.database import Database
from worker.ledger.screening import claims, verdicts
from worker.settings import Settings
from worker.store.folder import FolderStore
url, home, moment, when = sys.argv[1:]
settings = Settings(home=Path(home))
desk = Ledger(Database(url), settings, FolderStore(Path(home)), Clock(datetime.fromisoformat(when)))
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
held = claims.claim_all(desk.database, UIDS[:2], settings, desk.clock)
assert verdicts.record_all(desk.database, [result(desk, claim) for claim in held], desk.clock()) == [True, True]
held = claims.claim_all(desk.database, UIDS[2:6], settings, desk.clock)
given = [result(desk, claim) for claim in held]
if moment == "before":
    die()
event.listen(desk.database.engine, "commit", die)
verdicts.record_all(desk.database, given, desk.clock())
"""


@pytest.mark.parametrize("moment", ["before", "at the commit"])
def test_a_worker_killed_between_claim_and_record_loses_nothing(desk: Ledger, tmp_path: Path, moment: str) -> None:
    for uid in UIDS[:6]:
        desk.receive(uid, content=uid)
    desk.clock.forward(1)
    desk.offer()
    asked = [desk.database.url, str(tmp_path), moment, desk.clock().isoformat()]
    done = subprocess.run([sys.executable, "-c", WORKER, *asked], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [desk.study(uid).state for uid in UIDS[:6]] == ["screened"] * 2 + ["screening"] * 4
    assert desk.count("screening") == 2
    desk.clock.forward(desk.settings.lease_s + 1)
    assert claims.take_back_lapsed(desk.database, desk.settings, desk.clock()) == 4
    offers = outbox.reoffer(desk.database, desk.settings, desk.clock(), Backlog())
    assert [(offer.study_uid, offer.is_suspect) for offer in offers] == [(uid, True) for uid in UIDS[2:6]]
    held = claims.claim_all(desk.database, UIDS[2:6], desk.settings, desk.clock)
    given = [result(desk, claim) for claim in held if isinstance(claim, Claim)]
    assert verdicts.record_all(desk.database, given, desk.clock()) == [True] * 4
    assert desk.count("screening") == 6
    assert {(desk.study(uid).state, desk.study(uid).attempts) for uid in UIDS[:6]} == {("screened", 0)}


class Counted(Database):
    """A database that counts the transactions which are begun."""

    begun = 0

    @contextmanager
    def asking(self) -> Iterator[None]:
        self.begun += 1
        with super().asking():
            yield


def test_a_database_that_is_away_is_not_asked_for_each_study(desk: Ledger) -> None:
    held = claimed(desk, 4)
    gone = Counted(desk.database.url.replace("sqlite:///", "sqlite:////nowhere").replace("/test_", "/gone_"))
    ends = verdicts.record_all(gone, [result(desk, claim) for claim in held], desk.clock())
    gone.close()
    assert {getattr(end, "code", "") for end in ends} == {"database_unavailable"}
    assert gone.begun == 1


def test_shadows_are_recorded_together_once_and_only_beside_a_verdict(desk: Ledger) -> None:
    held = claimed(desk, 3)
    assert verdicts.record_all(desk.database, [result(desk, claim) for claim in held[:2]], desk.clock()) == [True] * 2
    shadow = replace(desk.model, digest="b" * 64)
    beside = [replace(result(desk, claim), model=shadow) for claim in held]
    assert verdicts.record_shadows(desk.database, beside, desk.model.digest, desk.clock()) == [True, True, False]
    assert verdicts.record_shadows(desk.database, beside[:1], desk.model.digest, Clock()()) == [False]
    assert desk.study(UIDS[2]).state == "screening"
