-- name: get
-- One job wherever it is: unfinished first, then history.
select id, queue, entrypoint, priority, status, attempt, execute_after, created_at, claimed_at, null::timestamptz, worker_id,
       dedupe_key, payload, headers::text, errors::text, null::text, requeued_from, null::bigint
from {job} where id = %(id)s::bigint
union all
select id, queue, entrypoint, priority, status, attempts, execute_after, created_at, claimed_at, finished_at, worker_id,
       dedupe_key, payload, headers::text, errors::text, result::text, requeued_from, requeued_as
from {history} where id = %(id)s::bigint

-- name: find_unfinished
-- Unfinished jobs, the latest first.
select id, queue, entrypoint, priority, status, attempt, execute_after, created_at, claimed_at, null::timestamptz, worker_id,
       dedupe_key, payload, headers::text, errors::text, null::text, requeued_from, null::bigint
from {job}
where (%(status)s::text is null or status = %(status)s::text)
  and (%(entrypoint)s::text is null or entrypoint = %(entrypoint)s::text)
  and (%(queue)s::text is null or queue = %(queue)s::text)
order by id desc limit %(limit)s::integer

-- name: held
-- Jobs that wait for a person, the latest first. The status is no parameter: only so is the index of held jobs used.
select id, queue, entrypoint, priority, status, attempt, execute_after, created_at, claimed_at, null::timestamptz, worker_id,
       dedupe_key, payload, headers::text, errors::text, null::text, requeued_from, null::bigint
from {job}
where status = 'held' and (%(entrypoint)s::text is null or entrypoint = %(entrypoint)s::text)
order by id desc limit %(limit)s::integer

-- name: find_finished
-- Finished jobs, the latest enqueued first.
select id, queue, entrypoint, priority, status, attempts, execute_after, created_at, claimed_at, finished_at, worker_id,
       dedupe_key, payload, headers::text, errors::text, result::text, requeued_from, requeued_as
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
