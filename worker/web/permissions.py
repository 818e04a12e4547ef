"""What each role may do."""

from enum import StrEnum

from schema.vocabulary import Role


class Permission(StrEnum):
    """One thing that a route needs."""

    LIST = "list"  #: the list, the states of a study, the quarantine
    LOOK = "look"  #: pictures, and what a header says of the patient
    VERDICT = "verdict"  #: give and withdraw verdicts, hold studies
    PRIORITY = "priority"
    REQUEUE = "requeue"
    AUDIT = "audit"


MAY: dict[Role, frozenset[Permission]] = {
    Role.READER: frozenset({Permission.LIST, Permission.LOOK, Permission.VERDICT, Permission.PRIORITY}),
    Role.OPERATOR: frozenset({Permission.LIST, Permission.REQUEUE}),
    Role.ADMIN: frozenset(Permission),
}
