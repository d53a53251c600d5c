-- name: claim_next
-- Claims the due job that comes first among these entrypoints: the one of the largest priority, of those the earliest due.
-- For whoever does one job after the other in a thread of his own, in a test; limits are left aside, pauses are not.
with first as materialized (
    select job.id
    from {job} as job
    where job.status = 'queued' and job.entrypoint = any(%(entrypoints)s::text[])
      and job.execute_after <= coalesce(%(now)s::timestamptz, statement_timestamp())
      and not exists (
          select from {limit} as lim
          where lim.paused_at is not null and lim.entrypoint in ('', job.entrypoint) and lim.queue in ('', job.queue)
      )
    order by job.priority desc, job.execute_after, job.id
    limit 1
    for update of job skip locked
)
update {job}
set status = 'running', attempt = attempt + 1, worker_id = %(worker_id)s::uuid, fence = %(fence)s::bigint,
    claimed_at = coalesce(%(now)s::timestamptz, statement_timestamp()),
    dedupe_until = nullif(dedupe_until, 'started')
where id = any(array(select id from first))
returning id, queue, entrypoint, payload, headers::text, priority, attempt, execute_after, created_at, claimed_at,
          dedupe_key, rescues
