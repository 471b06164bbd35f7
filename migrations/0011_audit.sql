-- The audit trail: who changed what, and who was refused what. Entries are written in the transaction
-- of the change and never changed. What was changed before this table came has no entries.
--
-- Every entry carries a keyed hash of itself and of the entry before it, so that whoever holds only
-- the database can change, remove or add none unnoticed (`api-server audit verify`). One chain would
-- make all writers wait for each other; so there are several, called lanes, and a writer takes one
-- that is free.

-- What the entries are sealed with, itself sealed by the vault. There is one, made once.
create table audit_key (
    audit_key_id smallint constraint audit_key_pkey primary key
        constraint audit_key_only_check check (audit_key_id = 1),
    key_encrypted bytea not null,
    created_at timestamptz not null default now()
);

-- How far each lane is. A writer holds its row until its commit; whoever finds none that is free
-- makes one, so that there are as many as there ever were writers at a time.
create table audit_lane (
    lane integer generated always as identity constraint audit_lane_pkey primary key,
    -- Of its last entry; 0: it has none.
    position bigint not null default 0 constraint audit_lane_position_check check (position >= 0),
    hash bytea not null default decode(repeat('00', 32), 'hex')
        constraint audit_lane_hash_check check (octet_length(hash) = 32)
);

-- No foreign keys: entries outlive what they tell of, and writing one locks nothing else.
create table audit_entry (
    audit_entry_id uuid constraint audit_entry_pkey primary key,
    lane integer not null,
    position bigint not null constraint audit_entry_position_check check (position > 0),
    -- That of the entry before it in its lane; zeros before the first.
    previous_hash bytea not null
        constraint audit_entry_previous_hash_check check (octet_length(previous_hash) = 32),
    -- HMAC-SHA-256 of that and of everything else in the row.
    hash bytea not null constraint audit_entry_hash_check check (octet_length(hash) = 32),
    at timestamptz not null,
    -- Who: an account, the network that is trusted, nobody who was known, or the portal itself.
    actor_kind text not null constraint audit_entry_actor_kind_check
        check (actor_kind in ('account', 'trusted_network', 'unknown', 'portal')),
    actor_id uuid,
    actor_name text not null,
    -- Whose session or token it was.
    credential_id uuid,
    action text not null,
    entity_type text not null,
    entity_id text not null,
    -- What it was called, for whoever reads.
    entity_name text,
    -- Null: of the whole portal.
    tenant_id uuid,
    -- The PBXes whose next apply carries it.
    pbx_ids uuid[] not null,
    -- What it was and what it became, without secrets.
    before jsonb,
    after jsonb,
    -- Null: the portal itself, or somebody at its command line.
    source_address text,
    request_id text,
    constraint audit_entry_lane_position_key unique (lane, position)
);

-- In pages, the newest first, by what they are filtered by.
create index audit_entry_at_idx on audit_entry (at, audit_entry_id);
create index audit_entry_tenant_idx on audit_entry (tenant_id, at, audit_entry_id)
    where tenant_id is not null;
create index audit_entry_actor_idx on audit_entry (actor_name, at, audit_entry_id);
create index audit_entry_action_idx on audit_entry (action, at, audit_entry_id);
create index audit_entry_entity_type_idx on audit_entry (entity_type, at, audit_entry_id);
create index audit_entry_entity_idx on audit_entry (entity_id, at, audit_entry_id);
create index audit_entry_request_idx on audit_entry (request_id, at, audit_entry_id)
    where request_id is not null;
create index audit_entry_search_idx on audit_entry using gin (
    tenant_id,
    (actor_name || ' ' || action || ' ' || coalesce(entity_name, '') || ' '
        || coalesce(source_address, '')) gin_trgm_ops
) with (fastupdate = off);

-- What the next apply of a PBX carries. Written with the entry, and removed when an apply that read
-- it is proven. No foreign key: an entry is never removed, and thousands of checks cost an apply time.
create table audit_pending (
    pbx_id uuid not null,
    audit_entry_id uuid not null,
    at timestamptz not null,
    constraint audit_pending_pkey primary key (pbx_id, audit_entry_id)
);

create index audit_pending_entry_idx on audit_pending (audit_entry_id);

-- What each apply carried, proven or not: everything that was pending when it read the data. No
-- foreign keys, for the same reason; rows of `apply` are never removed either.
create table apply_change (
    apply_id uuid not null,
    audit_entry_id uuid not null,
    -- When it was made: that of the entry, so that they are listed in order.
    at timestamptz not null,
    constraint apply_change_pkey primary key (apply_id, at, audit_entry_id)
);

create index apply_change_entry_idx on apply_change (audit_entry_id);

alter table apply add column change_count integer not null default 0
    constraint apply_change_count_check check (change_count >= 0);

-- Nobody changes what was written: neither the portal by mistake nor whoever got hold of its role.
-- (A role that owns the tables can drop the triggers: README, "Two roles".) They fire whatever
-- `session_replication_role` says.
create function refuse_audit_change() returns trigger language plpgsql as $$
begin
    raise exception 'table % is append-only', tg_table_name using errcode = 'insufficient_privilege';
end
$$;

create trigger audit_entry_rows_append_only before update or delete on audit_entry
    for each row execute function refuse_audit_change();
create trigger audit_entry_append_only before update or delete or truncate on audit_entry
    for each statement execute function refuse_audit_change();
create trigger audit_lane_stays before delete or truncate on audit_lane
    for each statement execute function refuse_audit_change();
create trigger audit_key_stays before delete or truncate on audit_key
    for each statement execute function refuse_audit_change();

create function refuse_audit_rewind() returns trigger language plpgsql as $$
begin
    if new.lane <> old.lane or new.position <= old.position then
        raise exception 'a lane of the audit trail only moves forward'
            using errcode = 'insufficient_privilege';
    end if;
    return new;
end
$$;

create trigger audit_lane_forward before update on audit_lane
    for each row execute function refuse_audit_rewind();

alter table audit_entry enable always trigger audit_entry_rows_append_only;
alter table audit_entry enable always trigger audit_entry_append_only;
alter table audit_lane enable always trigger audit_lane_stays;
alter table audit_lane enable always trigger audit_lane_forward;
alter table audit_key enable always trigger audit_key_stays;
