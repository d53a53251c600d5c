-- name: database_now
-- What the database's clock says.
select coalesce(%(now)s::timestamptz, statement_timestamp())

-- name: declare_schedule
-- Notes a schedule; one that is there already keeps when it is due next, unless its time zone has changed.
insert into {schedule} as schedule (name, expression, timezone, queue, priority, next_at)
values (%(name)s, %(expression)s, %(timezone)s, %(queue)s, %(priority)s, %(next_at)s::timestamptz)
on conflict (name, expression) do update
set timezone = excluded.timezone, queue = excluded.queue, priority = excluded.priority,
    next_at = case when schedule.timezone = excluded.timezone then schedule.next_at else excluded.next_at end

-- name: due_schedules
-- The due ones among the given names, locked, so that no other scheduler fires the same tick; and the time.
select name, expression, timezone, queue, priority, next_at, coalesce(%(now)s::timestamptz, statement_timestamp())
from {schedule}
where name = any(%(names)s::text[]) and paused_at is null
  and next_at <= coalesce(%(now)s::timestamptz, statement_timestamp())
order by next_at
for update skip locked

-- name: advance_schedule
-- Moves a schedule on from a tick that is enqueued in the same transaction.
update {schedule} set last_at = %(last_at)s::timestamptz, next_at = %(next_at)s::timestamptz
where name = %(name)s and expression = %(expression)s

-- name: next_schedule
-- In how many seconds the next of the given names is due; null if none is.
select extract(epoch from min(next_at) - coalesce(%(now)s::timestamptz, statement_timestamp()))::float8
from {schedule} where name = any(%(names)s::text[]) and paused_at is null
