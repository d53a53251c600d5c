"""A history of many rows, made in SQL."""

from __future__ import annotations

import psycopg

_JOBS = """
    insert into pgq_job (entrypoint, queue, status, payload, headers, errors, dedupe_key, claimed_at, created_at, worker_id)
    select 'entry' || n %% 20, 'queue' || n %% 3,
           case when n %% 1000 = 0 then 'held' when n %% 2000 = 1 then 'running' else 'queued' end,
           convert_to(repeat('p', 200), 'UTF8'), '{"a": 1}',
           case when n %% 10 = 0 then '[{"attempt": 1, "type": "ValueError", "message": "m", "traceback": "t"}]'::jsonb end,
           case when n %% 5 = 0 then 'key' || n end, now(), now() - n * interval '1 second',
           case when n %% 2000 = 1 then gen_random_uuid() end
    from generate_series(1, %(jobs)s) as n
"""
_HISTORY = """
    insert into pgq_history (id, finished_at, execute_after, created_at, claimed_at, attempts, priority, status, queue,
                             entrypoint, dedupe_key, payload, headers, errors, result, worker_id)
    select n, ended, ended, ended, ended, 1, 0,
           case when n %% 50 = 0 then 'failed' when n %% 70 = 0 then 'cancelled' else 'succeeded' end, 'queue' || n %% 3,
           'entry' || n %% 20, case when n %% 5 = 0 then 'old' || n end, convert_to(repeat('p', 200), 'UTF8'), '{"a": 1}',
           case when n %% 50 = 0 then '[{"attempt": 1, "type": "ValueError", "message": "m", "traceback": "t"}]'::jsonb end,
           '1', gen_random_uuid()
    from (select 1000000 + n as n, now() - (%(history)s - n) * (%(days)s * interval '1 day' / %(history)s) as ended
          from generate_series(1, %(history)s) as n) as given
"""
_DAYS = """
    select count(*) from generate_series(1, %(days)s) as n, lateral pgq_maintain(now() - n * interval '1 day')
"""


def fill(dsn: str, *, jobs: int, history: int, days: int = 8) -> None:
    """Puts unfinished jobs into a database, and history that reaches so many days back."""
    params = {"jobs": jobs, "history": history, "days": days}
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in (_DAYS, _JOBS, _HISTORY):
            connection.execute(statement.encode(), params)
        connection.execute("vacuum analyze")
