"""From raw parquet files to interactions, events and samples by DuckDB's window functions, see benchmarks/long_logs.py.

python -m peers.duckdb_log RAW FOLDER MEMORY THREADS
"""

import json
import sys
import time
from pathlib import Path

import duckdb
from measuring import peak_gib

STATEMENTS = """
create table interactions as
    select user_id, item_id, max(rating) as rating, timestamp, (max(rating) >= 4)::tinyint as label
    from read_parquet('{raw}/*.parquet')
    where rating between 0.5 and 5 and timestamp > 0
    group by user_id, item_id, timestamp;
copy (from interactions order by timestamp, user_id, item_id) to '{folder}/interactions.parquet';
create table users as select user_id, (row_number() over (order by user_id) - 1)::integer as user_index
    from (select distinct user_id from interactions);
create table items as select item_id, (row_number() over (order by item_id) - 1)::integer as item_index
    from (select distinct item_id from interactions);
create table events as
    select user_index, item_index, rating::float as rating, label, timestamp,
        row_number() over (order by user_index, timestamp, item_index) - 1 as event,
        row_number() over (partition by user_index order by timestamp, item_index) - 1 as place
    from interactions join users using (user_id) join items using (item_id);
copy (select item_index, rating, label, timestamp from events order by event) to '{folder}/events.parquet';
create table samples as
    select row_number() over (order by timestamp, user_index, item_index) - 1 as row, * exclude (place)
    from (select user_index, item_index, label, timestamp, event, place,
              min(event) over (partition by user_index, timestamp) as history_end from events)
    where place >= 5;
copy (select *, case when row < (select floor(0.8 * count(*)) from samples) then 'train'
              when row < (select floor(0.8 * count(*)) + floor(0.1 * count(*)) from samples) then 'validation'
              else 'test' end as split
      from samples order by row) to '{folder}/samples.parquet';
"""


def main(raw: Path, folder: Path, memory: str, threads: str) -> None:
    """Make the tables within a bound of memory, on disk where it does not suffice, and print what it cost."""
    database = duckdb.connect(folder / "log.duckdb")
    database.execute(f"set memory_limit = '{memory}'; set threads = {threads}; set temp_directory = '{folder}/spilled'")
    start = time.perf_counter()
    for statement in STATEMENTS.format(raw=raw, folder=folder).split(";\n"):
        if statement.strip():
            database.execute(statement)
    seconds = time.perf_counter() - start
    samples = database.execute("select count(*), sum(event), sum(history_end) from samples").fetchone()
    digest = [int(number) for number in samples or ()]
    print(json.dumps({"seconds": {"all": seconds}, "peak GiB": peak_gib(), "samples": digest}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4])
