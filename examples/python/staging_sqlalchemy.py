"""Places orders with SQLAlchemy: python staging_sqlalchemy.py ID CENTS …"""

import os
import sys

from sqlalchemy import Column, MetaData, Table, Text, create_engine, insert
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

staged_records = Table(
    "staged_records", MetaData(schema="unilog"),
    Column("object", Text), Column("action", Text), Column("key", Text), Column("data", JSONB))


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[str] = mapped_column(primary_key=True)
    cents: Mapped[int]


def place(engine, id, cents):
    with Session(engine) as session, session.begin():
        session.add(Order(id=id, cents=cents))
        session.flush()  # before the record, which is staged at once
        session.execute(insert(staged_records).values(
            object="order", action="create", key=id, data={"cents": cents}))
        if cents < 0:
            raise ValueError("an order costs something")  # neither the order nor the record is there


if __name__ == "__main__":
    url = os.environ["DATABASE_URL"].replace("postgres://", "postgresql+psycopg://", 1)
    engine = create_engine(url, connect_args={"client_encoding": "UTF8"})
    for id, cents in zip(sys.argv[1::2], sys.argv[2::2]):
        place(engine, id, int(cents))
