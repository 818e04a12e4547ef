"""The CRC-32 of each received object: a stored file is verified at every read, in a thirtieth of a digest's time."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; objects of an older worker have none, and are verified by their digest."""
    op.add_column("instance", sa.Column("crc", sa.BigInteger(), nullable=True))
