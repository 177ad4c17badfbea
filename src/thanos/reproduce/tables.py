"""The paper's tables, by name."""

from thanos.reproduce import table3, table4

TABLES = {table.name: table for table in (table3.TABLE, table4.TABLE)}
