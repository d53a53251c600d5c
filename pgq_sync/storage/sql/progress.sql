-- name: report_progress
-- Notes how far running attempts are, each only while its claim holds. Rows that somebody has locked wait for nobody: of
-- those the ids come back.
with given as materialized (
    select given.*
    from unnest(%(ids)s::bigint[], %(claimed)s::timestamptz[], %(fractions)s::float8[], %(notes)s::text[])
        as given(id, claimed_at, fraction, note)
    join {job} as job on job.id = given.id
    where job.id = any(%(ids)s::bigint[]) and job.worker_id is not distinct from %(worker_id)s and job.claimed_at = given.claimed_at
), known as materialized (
    select job_id from {progress} where job_id = any(array(select id from given))
), free as materialized (
    select job_id from {progress} where job_id = any(array(select id from given)) for update skip locked
), changed as (
    update {progress} as progress
    set fraction = given.fraction, note = given.note, updated_at = coalesce(%(now)s::timestamptz, statement_timestamp())
    from given
    where progress.job_id = any(array(select job_id from free)) and given.id = progress.job_id
), added as (
    insert into {progress} (job_id, fraction, note, updated_at)
    select id, fraction, note, coalesce(%(now)s::timestamptz, statement_timestamp())
    from given where id not in (select job_id from known)
    order by id
    on conflict (job_id) do nothing
)
select job_id from known where job_id not in (select job_id from free)

-- name: progress
-- How far these running jobs are.
select job_id, fraction, note, updated_at from {progress} where job_id = any(%(ids)s::bigint[])

-- name: sweep_progress
-- Forgets how far jobs were that are finished, some at a time; their ids come back.
with over as materialized (
    select job_id from {progress} as progress
    where not exists (select from {job} as job where job.id = progress.job_id)
    limit 10000
    for update skip locked
)
delete from {progress} where job_id = any(array(select job_id from over)) returning job_id
