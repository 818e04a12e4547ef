"""The verbs `worker user ...`: accounts of the page, and tokens of other systems."""

import sys

import click

from schema.vocabulary import Role
from worker.cli import options
from worker.cli.options import as_json, by

name = click.argument("name", metavar="NAME", callback=options.require_name)


@click.group(cls=options.Verbs)
def user() -> None:
    """Manage the accounts of the page, and the tokens of other systems."""


@user.command()
@name
@click.option("--role", required=True, type=click.Choice([str(r) for r in Role]), help="What the account may do.")
@click.option("--no-password", is_flag=True, help="Only a trusted proxy logs it in (SCREENING_WEB_TRUSTED_HEADER).")
@by
def add(name: str, role: str, no_password: bool, by: str) -> None:
    """Make an account; its password is asked for, or read as one line where there is no terminal."""
    from worker.ledger.clocks import now
    from worker.ledger.reading_room import accounts
    from worker.web.passwords import hashed

    database = options.ledger()[0]
    accounts.add(database, name, Role(role), None if no_password else hashed(_password()), by, now())
    click.echo(f"{name} may log in as {role}")


@user.command("list")
@as_json
def list_accounts(as_json: bool) -> None:
    """Print the accounts, their live sessions, and the tokens."""
    from worker.ledger.clocks import now
    from worker.ledger.reading_room import accounts

    database = options.ledger()[0]
    known, tokens = accounts.every(database, now()), accounts.tokens(database)
    if as_json:
        listed = [
            {"name": a.name, "role": a.role, "is_disabled": a.disabled_at is not None, "sessions": a.live_sessions}
            for a in known
        ]
        issued = [{"name": n, "scope": s, "is_revoked": r is not None} for n, s, _, r in tokens]
        options.print_json({"accounts": listed, "tokens": issued})
        return
    from worker.cli.tables import print_table

    rows = [(a.name, a.role, "disabled" if a.disabled_at else "", a.live_sessions) for a in known]
    print_table("Accounts", ("name", "role", "", "sessions"), rows)
    if tokens:
        print_table("Tokens", ("name", "scope", ""), [(n, s, "revoked" if r else "") for n, s, _, r in tokens])


@user.command()
@name
@by
def disable(name: str, by: str) -> None:
    """Disable an account and end its sessions; `worker user password` enables it again."""
    from worker.ledger.clocks import now
    from worker.ledger.reading_room import accounts

    accounts.disable(options.ledger()[0], name, by, now())
    click.echo(f"{name} is disabled, and its sessions have ended")


@user.command()
@name
@by
def password(name: str, by: str) -> None:
    """Give an account a new password and end its sessions."""
    from worker.ledger.clocks import now
    from worker.ledger.reading_room import accounts
    from worker.web.passwords import hashed

    database = options.ledger()[0]
    accounts.set_password(database, name, hashed(_password()), by, now())
    click.echo(f"{name} has a new password, and its sessions have ended")


@user.command()
@name
@by
def sessions(name: str, by: str) -> None:
    """End all sessions of an account."""
    from worker.ledger.clocks import now
    from worker.ledger.reading_room import accounts

    accounts.end_sessions(options.ledger()[0], name, by, now())
    click.echo(f"the sessions of {name} have ended")


@user.command()
@name
@click.option("--scope", multiple=True, help="worklist, studies or health; may be repeated.")
@click.option("--revoke", is_flag=True, help="Revoke the token of this name.")
@by
def token(name: str, scope: tuple[str, ...], revoke: bool, by: str) -> None:
    """Make a token with which another system reads the JSON interface; it is printed once."""
    from worker.ledger.clocks import now
    from worker.ledger.reading_room import accounts

    database = options.ledger()[0]
    if revoke:
        accounts.revoke_token(database, name, by, now())
        click.echo(f"the token {name} is revoked")
        return
    click.echo(accounts.make_token(database, name, scope, by, now()))


def _password() -> str:
    """A new password, typed twice on a terminal, else the first line of standard input."""
    if sys.stdin.isatty():
        return str(click.prompt("Password (12 characters at least)", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\n")
