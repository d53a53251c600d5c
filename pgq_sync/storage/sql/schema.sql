-- name: lock_schema
-- One install, upgrade or uninstall at a time; the others wait and then find their work done.
select pg_advisory_xact_lock({lock_key})

-- name: installed_version
-- The version of the installed schema; no row where the table is empty, no table where nothing is installed.
select version from {version}

-- name: is_installed
-- Whether there is a schema at all.
select to_regclass({version_literal}) is not null

-- name: record_version
-- Notes which migrations have run.
insert into {version} (version) values (%(version)s)
on conflict (only_row) do update set version = excluded.version

-- name: autovac
-- A queue's rows die young: vacuum early, and by dead rows rather than by a share of a table that may be large for a while.
alter table {job} set (
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0.2, autovacuum_analyze_scale_factor = 0.05, autovacuum_analyze_threshold = 1000
)

-- name: autovac_rollback
-- Back to the server's own autovacuum settings.
alter table {job} reset (
    autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, autovacuum_vacuum_cost_delay,
    autovacuum_vacuum_insert_scale_factor, autovacuum_analyze_scale_factor, autovacuum_analyze_threshold
)

-- name: first_partitions
-- The first days of history.
select made from {maintain}()

-- name: drop_all
-- Everything that install has made, but not the schema: it may hold other things.
drop table if exists {job}, {history}, {worker}, {schedule}, {limit}, {cancel}, {progress}, {watch}, {version};
drop function if exists {announce_insert}();
drop function if exists {channel}();
drop function if exists {announce_ended}(text, bigint[]);
drop function if exists {announce}(bigint, bigint, text[], text[], smallint[], timestamptz[], timestamptz);
drop function if exists {enqueue}(text, bytea, integer, timestamptz, text, text, jsonb, text, text, boolean);
drop function if exists {enqueue_many}(text[], bytea[], smallint[], timestamptz[], text[], text[], text[], text[], text, timestamptz);
drop function if exists {maintain}(timestamptz, interval);

-- name: durability
-- volatile: a crash of the server empties the queue and history; balanced: only history; durable: nothing is lost.
do $durability$
declare
    partition regclass;
begin
    if {durability_literal} = 'volatile' then
        alter table {job} set unlogged;
    else
        alter table {job} set logged;
    end if;
    for partition in select inhrelid::regclass from pg_inherits where inhparent = {history_literal}::regclass loop
        execute format('alter table %s set %s', partition, case when {durability_literal} = 'durable' then 'logged' else 'unlogged' end);
    end loop;
    update {version} set durability = {durability_literal};
end
$durability$

-- name: current_durability
-- What the tables are set to.
select durability from {version}

-- name: qualify_everything
-- With nothing on the search_path, PostgreSQL names everything with its schema. Only for the transaction: behind a
-- pooler the session is others' too.
set local search_path to ''

-- name: schema_of_version
-- The schema in which the tables are found.
select relnamespace::regnamespace::text, current_database() from pg_class where oid = to_regclass({version_literal})

-- name: grants_producer
-- What a role needs to enqueue. It may replace a job that waits, and forget that the old one was asked to end, but claim
-- none: it cannot write worker and fence.
grant select, insert on {job} to {role};
grant update (entrypoint, payload, priority, execute_after, dedupe_until, headers, queue, status, attempt, rescues, errors) on {job} to {role};
grant select, delete on {cancel} to {role};
grant usage on sequence {job_sequence} to {role};
grant execute on function {enqueue}(text, bytea, integer, timestamptz, text, text, jsonb, text, text, boolean) to {role};
grant execute on function {enqueue_many}(text[], bytea[], smallint[], timestamptz[], text[], text[], text[], text[], text, timestamptz) to {role};
grant execute on function {announce}(bigint, bigint, text[], text[], smallint[], timestamptz[], timestamptz) to {role};
grant execute on function {channel}() to {role};

-- name: grants_worker
-- What a role needs to run jobs, enqueue included. Partitions are made and dropped by a function of the owner's.
grant select, insert, update, delete on {job}, {worker}, {schedule}, {limit}, {cancel}, {progress}, {watch} to {role};
grant select, insert, update (requeued_as) on {history} to {role};
grant select on {version} to {role};
grant usage on sequence {job_sequence} to {role};
grant execute on function {enqueue}(text, bytea, integer, timestamptz, text, text, jsonb, text, text, boolean) to {role};
grant execute on function {enqueue_many}(text[], bytea[], smallint[], timestamptz[], text[], text[], text[], text[], text, timestamptz) to {role};
grant execute on function {announce}(bigint, bigint, text[], text[], smallint[], timestamptz[], timestamptz) to {role};
grant execute on function {maintain}(timestamptz, interval) to {role};
grant execute on function {announce_ended}(text, bigint[]) to {role};
grant execute on function {channel}() to {role};

-- name: grants_operator
-- What a role needs to look after jobs, limits and schedules. It may end a job that waits, and claim none.
grant select, insert, update (execute_after, status, attempt, rescues), delete on {job} to {role};
grant select, insert, update (requeued_as), delete on {history} to {role};
grant select, insert, delete on {cancel} to {role};
grant select, insert, update on {limit} to {role};
grant select, insert, update, delete on {schedule} to {role};
grant select on {worker}, {version}, {progress}, {watch} to {role};
grant usage on sequence {job_sequence} to {role};
grant execute on function {announce}(bigint, bigint, text[], text[], smallint[], timestamptz[], timestamptz) to {role};
grant execute on function {maintain}(timestamptz, interval) to {role};
grant execute on function {announce_ended}(text, bigint[]) to {role};
grant execute on function {channel}() to {role};

-- name: grants_watcher
-- What a role needs to wait for jobs: it sees them all, and what became of them.
grant select on {job}, {history}, {progress}, {version} to {role};
grant select, insert, update, delete on {watch} to {role};
grant execute on function {channel}() to {role};

-- name: catalog
-- Every table, column, index, constraint, trigger and function whose name begins with the prefix, each as one text.
-- Partitions of history come and go and are left out, and so is another installation whose longer prefix begins alike.
with other as (
    select left(relname, -7) as prefix
    from pg_class
    where relnamespace = %(schema)s::regnamespace and starts_with(relname, %(prefix)s)
      and right(relname, 7) = 'version' and relname <> %(prefix)s::text || 'version'
), relation as (
    select oid, relname, relkind, relpersistence, reloptions
    from pg_class
    where relnamespace = %(schema)s::regnamespace and starts_with(relname, %(prefix)s)
      and relkind in ('r', 'p') and not relispartition
      and not exists (select from other where starts_with(relname, other.prefix))
)
select 'table ' || relname,
       relkind::text || ' ' || relpersistence::text || ' ' || coalesce((select string_agg(o, ', ' order by o) from unnest(reloptions) as o), '')
from relation
union all
select 'column ' || relname || '.' || attname,
       concat_ws(' ', format_type(atttypid, atttypmod), case when attnotnull then 'not null' end,
                 nullif(attidentity::text, ''), (select collname from pg_collation where oid = attcollation),
                 pg_get_expr(adbin, adrelid))
from relation join pg_attribute on attrelid = relation.oid and attnum > 0 and not attisdropped
left join pg_attrdef on adrelid = attrelid and adnum = attnum
union all
select 'index ' || pg_class.relname, pg_get_indexdef(indexrelid) || case when indisvalid then '' else ' (invalid)' end
from relation join pg_index on indrelid = relation.oid join pg_class on pg_class.oid = indexrelid
union all
select 'constraint ' || relname || '.' || conname,
       pg_get_constraintdef(pg_constraint.oid) || case when convalidated then '' else ' (not validated)' end
from pg_constraint join relation on conrelid = relation.oid
-- PostgreSQL 18 lists NOT NULL here too; the columns above tell it for every version.
where contype <> 'n'
union all
select 'trigger ' || relname || '.' || tgname, pg_get_triggerdef(pg_trigger.oid) || case tgenabled when 'O' then '' else ' (disabled)' end
from pg_trigger join relation on tgrelid = relation.oid where not tgisinternal
union all
select 'function ' || proname || '(' || pg_get_function_identity_arguments(oid) || ')', pg_get_functiondef(oid)
from pg_proc
where pronamespace = %(schema)s::regnamespace and starts_with(proname, %(prefix)s)
  and not exists (select from other where starts_with(proname, other.prefix))
order by 1
