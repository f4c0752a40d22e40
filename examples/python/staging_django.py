"""Places orders with Django: python staging_django.py ID CENTS …"""

import os
import sys

import django
from django.conf import settings
from django.db import models, transaction
from psycopg.conninfo import conninfo_to_dict

url = conninfo_to_dict(os.environ["DATABASE_URL"])
settings.configure(DATABASES={"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": url["dbname"],
    **{setting: url.get(setting.lower(), "") for setting in ("HOST", "PORT", "USER", "PASSWORD")}}})
django.setup()


class StagedRecord(models.Model):
    object, action, key = models.TextField(), models.TextField(), models.TextField()
    data = models.JSONField()

    class Meta:
        app_label, managed = "orders", False
        db_table = 'unilog"."staged_records'


class Order(models.Model):
    id, cents = models.TextField(primary_key=True), models.BigIntegerField()

    class Meta:
        app_label, managed, db_table = "orders", False, "orders"


@transaction.atomic
def place(id, cents):
    Order.objects.create(id=id, cents=cents)
    StagedRecord.objects.create(object="order", action="create", key=id, data={"cents": cents})
    if cents < 0:
        raise ValueError("an order costs something")  # neither the order nor the record is there


if __name__ == "__main__":
    for id, cents in zip(sys.argv[1::2], sys.argv[2::2]):
        place(id, int(cents))
