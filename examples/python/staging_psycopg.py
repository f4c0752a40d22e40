"""Places orders with psycopg: python staging_psycopg.py ID CENTS …"""

import os
import sys

import psycopg
from psycopg.types.json import Jsonb

STAGE = "INSERT INTO unilog.staged_records (object, action, key, data) VALUES (%s, %s, %s, %s)"


def place(db, id, cents):
    with db.transaction():
        db.execute("INSERT INTO orders (id, cents) VALUES (%s, %s)", (id, cents))
        db.execute(STAGE, ("order", "create", id, Jsonb({"cents": cents})))
        if cents < 0:
            raise ValueError("an order costs something")  # neither the order nor the record is there


if __name__ == "__main__":
    with psycopg.connect(os.environ["DATABASE_URL"], client_encoding="UTF8", autocommit=True) as db:
        for id, cents in zip(sys.argv[1::2], sys.argv[2::2]):
            place(db, id, int(cents))
