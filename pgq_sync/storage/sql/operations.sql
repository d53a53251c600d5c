-- name: dedupe_keys
-- The keys of these jobs: statements lock jobs in their order, as enqueuing does where it replaces jobs, so that no two
-- can wait for each other.
select id, dedupe_key from {job} where id = any(%(ids)s::bigint[])

-- name: end_waiting
-- Ends jobs that wait, without their ever running: to history as cancelled or deleted. Their ids come back.
with picked as materialized (
    -- Whoever has a row locked is waited for, and the row is looked at again then: one that was claimed is left alone.
    select id from {job}
    where id = any(%(ids)s::bigint[]) and status in ('queued', 'held')
    order by dedupe_key, id
    for update
), gone as (
    delete from {job} where id = any(array(select id from picked)) returning *
), kept as (
    insert into {history} (id, finished_at, execute_after, created_at, claimed_at, fence, requeued_from, attempts, priority,
                           worker_id, status, queue, entrypoint, dedupe_key, dedupe_until, payload, headers, errors)
    select id, coalesce(%(now)s::timestamptz, statement_timestamp()), execute_after, created_at, claimed_at, fence, requeued_from,
           attempt, priority, worker_id, %(status)s::text, queue, entrypoint, dedupe_key, dedupe_until, payload, headers,
           case when %(error)s::text is null then errors else coalesce(errors, '[]') || %(error)s::text::jsonb end
    from gone
), told as (
    select {announce_ended}('ended', array_agg(distinct job_id)) from {watch}
    where job_id = any(array(select id from gone))
    having count(*) > 0
)
select gone.id from gone, (select count(*) from told) as announced

-- name: ask_running
-- Asks running jobs to end, in a table apart: a job's own row, locked here, would block whoever finishes it until this
-- transaction ends. Tells of each id that is unfinished whether it was asked; with `waiting_too` all of them are.
with unfinished as materialized (
    select id, status = 'running' or %(waiting_too)s::boolean as asked from {job} where id = any(%(ids)s::bigint[])
), noted as (
    insert into {cancel} (job_id, asked_at)
    select id, coalesce(%(now)s::timestamptz, statement_timestamp()) from unfinished where asked order by id
    on conflict (job_id) do nothing
), told as (
    select pg_notify({channel}(), '[0, 0, [], "cancel"]') from unfinished where asked limit 1
)
select id, asked from unfinished, (select count(*) from told) as announced

-- name: requests
-- Which of these jobs were asked to end.
select job_id from {cancel} where job_id = any(%(ids)s::bigint[])

-- name: idle_requests
-- Requests that no worker will meet: their job waits, or is finished. Told without a lock, since mostly there are none.
select job_id from {cancel}
except
select id from {job} where id = any(array(select job_id from {cancel})) and status = 'running'
limit 10000

-- name: lock_requested
-- Which of the jobs with these requests wait, both locked, so that none is put back meanwhile. What somebody else has
-- locked is left for the next time.
with request as materialized (
    select job_id from {cancel} where job_id = any(%(ids)s::bigint[]) for update skip locked
)
select id from {job}
where id = any(array(select job_id from request)) and status in ('queued', 'held')
for update skip locked

-- name: forget_requests
-- Forgets those of these requests whose job is finished.
with request as materialized (
    select job_id from {cancel} where job_id = any(%(ids)s::bigint[]) for update skip locked
)
delete from {cancel}
where job_id = any(array(
    select job_id from request
    except
    select id from {job} where id = any(%(ids)s::bigint[])
))

-- name: requeue_failed
-- Enqueues failed jobs anew, under new ids that name the old ones, and marks these: none can be put back twice. Where a
-- dedupe key is taken, nothing comes back.
with picked as materialized (
    -- Two who put the same job back: the second waits here, and then finds it marked. On a table that was never analyzed
    -- a list of ids is taken for much of it, unless it comes from an array(...); and "is not distinct from" keeps the
    -- planner from reading all failed jobs by their index.
    select * from {history}
    where id = any(array(select unnest(%(ids)s::bigint[]))) and status is not distinct from 'failed' and requeued_as is null
    order by dedupe_key, id
    for update
), added as (
    insert into {job} (execute_after, created_at, requeued_from, attempt, priority, queue, entrypoint, dedupe_key, dedupe_until,
                       payload, headers, errors)
    select coalesce(%(now)s::timestamptz, statement_timestamp()), coalesce(%(now)s::timestamptz, statement_timestamp()), id,
           case when %(reset_attempts)s::boolean then 0 else attempts end, priority, queue, entrypoint, dedupe_key, dedupe_until,
           payload, headers, errors
    from picked
    order by dedupe_key, id
    on conflict (dedupe_key) where dedupe_key is not null and dedupe_until is not null do nothing
    returning id, requeued_from
), marked as (
    update {history} as failed set requeued_as = added.id
    from added
    where failed.id = any(array(select requeued_from from added)) and failed.id = added.requeued_from
)
select requeued_from, id from added

-- name: requeue_held
-- Puts held jobs back, and forgets that they were asked to end; their ids come back.
with picked as materialized (
    select id from {job}
    where id = any(%(ids)s::bigint[]) and status = 'held'
    order by dedupe_key, id
    for update
), changed as (
    update {job}
    set status = 'queued', execute_after = coalesce(%(now)s::timestamptz, statement_timestamp()),
        attempt = case when %(reset_attempts)s::boolean then 0 else attempt end, rescues = 0
    where id = any(array(select id from picked))
    returning id, queue, entrypoint, priority, execute_after
), forgotten as (
    delete from {cancel} where job_id = any(array(select id from picked))
), told as (
    select {announce}(max(id), count(*), array_agg(queue), array_agg(entrypoint), array_agg(priority), array_agg(execute_after),
                      %(now)s::timestamptz)
    from (
        select max(id) as id, queue, entrypoint, priority, min(execute_after) as execute_after
        from changed group by queue, entrypoint, priority
    ) as lane
    having count(*) > 0
)
select changed.id from changed, (select count(*) from told) as announced

-- name: failed
-- Which of these jobs ended as failed and are still remembered, and as which they were requeued.
select id, requeued_as from {history}
where id = any(array(select unnest(%(ids)s::bigint[]))) and status is not distinct from 'failed'

-- name: unfinished
-- Which of these jobs are unfinished, and whether they run.
select id, status = 'running' from {job} where id = any(%(ids)s::bigint[])

-- name: forget_finished
-- Removes finished jobs from history; their ids come back. A watcher that comes too late to see how they ended is told.
with picked as materialized (
    select id from {history} where id = any(array(select unnest(%(ids)s::bigint[]))) order by dedupe_key, id for update
), gone as (
    delete from {history} where id = any(array(select id from picked)) returning id
), told as (
    select {announce_ended}('removed', array_agg(distinct job_id)) from {watch}
    where job_id = any(array(select id from gone))
    having count(*) > 0
)
select gone.id from gone, (select count(*) from told) as announced

-- name: lock_waiting
-- The next waiting jobs of a status that are to be purged, locked. What somebody else has locked is left: it is about
-- to be claimed or changed.
select id from {job}
where status = %(status)s::text and id > %(after)s::bigint and created_at <= %(before)s::timestamptz
  and (%(entrypoint)s::text is null or entrypoint = %(entrypoint)s::text)
order by id limit %(slice)s::integer
for update skip locked

-- name: purge_finished
-- Removes the next finished jobs of a status from history; their ids come back.
with picked as materialized (
    select id from {history}
    where status = %(status)s::text and id > %(after)s::bigint and finished_at <= %(before)s::timestamptz
      and (%(entrypoint)s::text is null or entrypoint = %(entrypoint)s::text)
    order by id limit %(slice)s::integer
    for update skip locked
), gone as (
    delete from {history}
    where id = any(array(select id from picked)) and finished_at <= %(before)s::timestamptz
    returning id
), told as (
    select {announce_ended}('removed', array_agg(distinct job_id)) from {watch}
    where job_id = any(array(select id from gone))
    having count(*) > 0
)
select gone.id from gone, (select count(*) from told) as announced

-- name: count_waiting
-- How many waiting jobs of a status a purge would end.
select count(*) from {job}
where status = %(status)s::text and created_at <= %(before)s::timestamptz
  and (%(entrypoint)s::text is null or entrypoint = %(entrypoint)s::text)

-- name: count_finished
-- How many finished jobs of a status a purge would remove.
select count(*) from {history}
where status = %(status)s::text and finished_at <= %(before)s::timestamptz
  and (%(entrypoint)s::text is null or entrypoint = %(entrypoint)s::text)
