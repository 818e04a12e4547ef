"""The tables of the page: accounts, their sessions, failed log-ins, holds, and the tokens of other systems."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from schema.columns import Base as Base
from schema.columns import Digest, RowId
from schema.models import Study
from schema.vocabulary import Role


class Account(Base):
    """A person who may use the page. Never removed, because the audit names it."""

    __tablename__ = "account"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[Role]
    password_hash: Mapped[str | None] = mapped_column(Text)  #: argon2id; None: only a trusted proxy logs it in
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]


class WebSession(Base):
    """A log-in of an account, by the hash of its token."""

    __tablename__ = "web_session"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    token_hash: Mapped[str] = mapped_column(Digest, unique=True)
    account_id: Mapped[int] = mapped_column(ForeignKey(Account.id), index=True)
    address: Mapped[str] = mapped_column(String(64))
    began_at: Mapped[datetime]
    used_at: Mapped[datetime]  #: last input of the person; polls do not count
    ended_at: Mapped[datetime | None]


class LoginFailure(Base):
    """A failed log-in, by the digest of the name that was typed, which may be a password."""

    __tablename__ = "login_failure"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    name_hash: Mapped[str] = mapped_column(Digest)
    address: Mapped[str] = mapped_column(String(64))
    failed_at: Mapped[datetime] = mapped_column(index=True)

    __table_args__ = (
        Index("ix_login_failure_name", "name_hash", "failed_at"),
        Index("ix_login_failure_address", "address", "failed_at"),
    )


class Hold(Base):
    """Who reads a study now. It ends by itself, blocks no worker and hides no study."""

    __tablename__ = "hold"

    study_id: Mapped[int] = mapped_column(ForeignKey(Study.id), primary_key=True, autoincrement=False)
    holder: Mapped[str] = mapped_column(String(64))
    session_id: Mapped[int] = mapped_column(ForeignKey(WebSession.id), index=True)
    opening: Mapped[str] = mapped_column(String(32))  #: of one opened page: a page that was left releases only its own
    taken_at: Mapped[datetime]
    until: Mapped[datetime]


class AccessToken(Base):
    """A token of another system for the JSON interface, by its hash."""

    __tablename__ = "access_token"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    token_hash: Mapped[str] = mapped_column(Digest, unique=True)
    scope: Mapped[str] = mapped_column(String(64))  #: parts of the interface, separated by spaces
    made_by: Mapped[str] = mapped_column(Text)
    made_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
