-- name: requeue_held
-- Puts held jobs back; their ids come back.
with changed as (
    update {job}
    set status = 'queued', execute_after = coalesce(%(now)s::timestamptz, statement_timestamp()),
        attempt = case when %(reset_attempts)s::boolean then 0 else attempt end, rescues = 0
    where id = any(%(ids)s::bigint[]) and status = 'held'
    returning id, queue, entrypoint, priority, execute_after
), told as (
    select {announce}(max(id), count(*), array_agg(queue), array_agg(entrypoint), array_agg(priority), array_agg(execute_after))
    from (
        select max(id) as id, queue, entrypoint, priority, min(execute_after) as execute_after
        from changed group by queue, entrypoint, priority
    ) as lane
    having count(*) > 0
)
select changed.id from changed, (select count(*) from told) as announced

-- name: requeue_failed
-- Enqueues failed jobs anew, under new ids that name the old ones; where a dedupe key is taken, nothing comes back.
insert into {job} (execute_after, created_at, requeued_from, attempt, priority, queue, entrypoint, dedupe_key, dedupe_until,
                   payload, headers, errors)
select coalesce(%(now)s::timestamptz, statement_timestamp()), coalesce(%(now)s::timestamptz, statement_timestamp()), id,
       case when %(reset_attempts)s::boolean then 0 else attempts end, priority, queue, entrypoint, dedupe_key, dedupe_until,
       payload, headers, errors
from {history}
where id = any(%(ids)s::bigint[]) and status = 'failed'
order by dedupe_key, id
on conflict (dedupe_key) where dedupe_key is not null and dedupe_until is not null do nothing
returning id, requeued_from

-- name: failed
-- Which of these jobs ended as failed and are still remembered.
select id from {history} where id = any(%(ids)s::bigint[]) and status = 'failed'

-- name: get
-- One job wherever it is: unfinished first, then history.
select id, queue, entrypoint, priority, status, attempt, execute_after, created_at, claimed_at, null::timestamptz, worker_id,
       dedupe_key, payload, headers, errors, null::json, requeued_from
from {job} where id = %(id)s::bigint
union all
select id, queue, entrypoint, priority, status, attempts, execute_after, created_at, claimed_at, finished_at, worker_id,
       dedupe_key, payload, headers, errors, result, requeued_from
from {history} where id = %(id)s::bigint

-- name: find_unfinished
-- Unfinished jobs, the latest first.
select id, queue, entrypoint, priority, status, attempt, execute_after, created_at, claimed_at, null::timestamptz, worker_id,
       dedupe_key, payload, headers, errors, null::json, requeued_from
from {job}
where (%(status)s::text is null or status = %(status)s::text)
  and (%(entrypoint)s::text is null or entrypoint = %(entrypoint)s::text)
  and (%(queue)s::text is null or queue = %(queue)s::text)
order by id desc limit %(limit)s::integer

-- name: find_finished
-- Finished jobs, the latest enqueued first.
select id, queue, entrypoint, priority, status, attempts, execute_after, created_at, claimed_at, finished_at, worker_id,
       dedupe_key, payload, headers, errors, result, requeued_from
from {history}
where (%(status)s::text is null or status = %(status)s::text)
  and (%(entrypoint)s::text is null or entrypoint = %(entrypoint)s::text)
  and (%(queue)s::text is null or queue = %(queue)s::text)
order by id desc limit %(limit)s::integer

-- name: count
-- How many jobs there are by entrypoint and status, finished ones included.
select entrypoint, status, count(*) from {job} group by entrypoint, status
union all
select entrypoint, status, count(*) from {history} group by entrypoint, status
order by 1, 2

-- name: latencies
-- From due to claimed, over the finished jobs: median, 95th and 99th percentile, in seconds.
select percentile_cont(array[0.5, 0.95, 0.99]) within group (order by extract(epoch from claimed_at - greatest(execute_after, created_at)))
from {history} where claimed_at is not null
