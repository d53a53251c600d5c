-- name: watch
-- Has the ends of these jobs told to a watcher, and tells which of them are unfinished: whoever ends one of them from now
-- on finds the row. What is watched already is renewed only now and then, since each renewal leaves a dead row.
with unfinished as materialized (
    select id from {job} where id = any(%(ids)s::bigint[])
), noted as (
    insert into {watch} (job_id, watcher_id, watched_at)
    select id, %(watcher_id)s::uuid, coalesce(%(now)s::timestamptz, statement_timestamp()) from unfinished
    where not exists (
        select from {watch} as known
        where known.job_id = unfinished.id and known.watcher_id = %(watcher_id)s::uuid
          and known.watched_at > coalesce(%(now)s::timestamptz, statement_timestamp()) - interval '10 minutes'
    )
    on conflict (job_id, watcher_id) do update set watched_at = excluded.watched_at
)
select id from unfinished

-- name: watched
-- What became of these jobs, nothing of those that are to run, or run; and ends their being watched. Of a job that is
-- nowhere the id alone comes back.
with unfinished as materialized (
    select id, entrypoint, status, attempt, errors from {job} where id = any(%(ids)s::bigint[])
), finished as materialized (
    select id, entrypoint, status, attempts, errors -> -1 as error, result
    from {history} where id = any(array(select unnest(%(ids)s::bigint[])))
), ended as materialized (
    select * from finished
    union all
    select id, entrypoint, status, attempt, errors -> -1, null from unfinished where status = 'held'
    union all
    select id, null, null, null, null, null
    from (
        select unnest(%(ids)s::bigint[]) as id except select id from unfinished except select id from finished
    ) as nowhere
), forgotten as (
    delete from {watch} where job_id = any(array(select id from ended)) and watcher_id = %(watcher_id)s::uuid
)
select id, entrypoint, status, attempts, error, result from ended

-- name: unwatch
-- Nobody waits for these jobs any more in this watcher.
delete from {watch} where job_id = any(%(ids)s::bigint[]) and watcher_id = %(watcher_id)s::uuid

-- name: sweep_watches
-- Forgets what watchers left behind that ended without a word: a living one renews its rows.
delete from {watch}
where (job_id, watcher_id) in (
    select job_id, watcher_id from {watch}
    where watched_at < coalesce(%(now)s::timestamptz, statement_timestamp()) - interval '1 hour'
    for update skip locked
)
