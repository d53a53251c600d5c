-- name: pause
-- Pauses an entrypoint, a queue, or one in the other ('' means any), and has every worker hear of it; no row comes back
-- where it was paused already.
with changed as (
    insert into {limit} as known (entrypoint, queue, paused_at)
    values (%(entrypoint)s::text, %(queue)s::text, coalesce(%(now)s::timestamptz, statement_timestamp()))
    on conflict (entrypoint, queue) do update set paused_at = excluded.paused_at
    where known.paused_at is null
    returning 1
)
select pg_notify({channel}(), '[0, 1000000]') from changed

-- name: resume
-- Takes back a pause of the same names, and has every worker hear of it; no row comes back where there was none.
with changed as (
    update {limit} set paused_at = null
    where entrypoint = %(entrypoint)s::text and queue = %(queue)s::text and paused_at is not null
    returning 1
)
select pg_notify({channel}(), '[0, 1000000]') from changed

-- name: limits
-- What is limited or paused, with the tokens of this moment and what runs now.
with running as materialized (
    select entrypoint, queue, count(*) as jobs from {job} where status = 'running' group by entrypoint, queue
)
select nullif(entrypoint, ''), nullif(queue, ''), concurrency_limit, requests_per_second, burst,
       least(burst, tokens + requests_per_second
             * greatest(extract(epoch from coalesce(%(now)s::timestamptz, statement_timestamp()) - refilled_at), 0)::float8),
       (select coalesce(sum(jobs), 0)::bigint from running
        where known.entrypoint in ('', running.entrypoint) and known.queue in ('', running.queue)),
       paused_at
from {limit} as known
where paused_at is not null or concurrency_limit > 0 or requests_per_second is not null
order by entrypoint, queue

-- name: declare_new_limits
-- Makes the rows of entrypoints that had none, with full buckets; in one order, so that no two workers that start at
-- once wait for each other. The others are left to change_limits, whose snapshot is newer than these locks.
insert into {limit} (entrypoint, queue, concurrency_limit, requests_per_second, burst, tokens, refilled_at, declared_at)
select entrypoint, '', concurrency_limit, requests_per_second, burst, burst, clock.now, clock.now
from (select coalesce(%(now)s::timestamptz, statement_timestamp()) as now) as clock,
     unnest(%(entrypoints)s::text[], %(concurrency_limits)s::integer[], %(rates)s::float8[], %(bursts)s::float8[])
     as given(entrypoint, concurrency_limit, requests_per_second, burst)
order by entrypoint collate "C"
on conflict (entrypoint, queue) do nothing
returning entrypoint

-- name: change_limits
-- Gives rows that say something else the declared numbers, and tells what they said. An entrypoint without numbers in an
-- array is unlimited; a row that was only paused has no declaration to differ from.
with given as materialized (
    select * from unnest(%(entrypoints)s::text[], %(concurrency_limits)s::integer[], %(rates)s::float8[], %(bursts)s::float8[])
        as given(entrypoint, concurrency_limit, requests_per_second, burst)
), old as materialized (
    select * from {limit} as known
    where known.queue = '' and known.entrypoint = any(array(select entrypoint from given))
    order by known.entrypoint
    for update
), changed as (
    update {limit} as known
    set concurrency_limit = given.concurrency_limit, requests_per_second = given.requests_per_second, burst = given.burst,
        -- What was there, and no more than now fits in. Where there was no rate the bucket is full.
        tokens = case when given.burst is not null then
            least(given.burst, old.burst, old.tokens + old.requests_per_second
                  * greatest(extract(epoch from clock.now - old.refilled_at), 0)::float8) end,
        refilled_at = clock.now, running_since = null, declared_at = clock.now
    from old join given using (entrypoint), (select coalesce(%(now)s::timestamptz, statement_timestamp()) as now) as clock
    where known.queue = '' and known.entrypoint = old.entrypoint
      and (old.concurrency_limit, old.requests_per_second, old.burst)
          is distinct from (given.concurrency_limit, given.requests_per_second, given.burst)
    returning known.entrypoint
)
select old.entrypoint, old.concurrency_limit, old.requests_per_second, old.burst, old.declared_at is not null
from changed join old using (entrypoint)
order by old.entrypoint

-- name: everybody_look
-- Has every worker look everywhere at once: a notification without lanes, of more jobs than there are workers.
select pg_notify({channel}(), '[0, 1000000]')
