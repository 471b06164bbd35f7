-- Who uses the PBX, and under which number.
--
-- Names of constraints and unique indexes are a contract: the portal turns a violation into an
-- answer by that name, so no name may change without the code that reads it.

-- An Asterisk host with its agent. Locks, revisions and applies are per PBX. Address, identity and
-- realm are set by the portal at start, from its environment.
create table pbx (
    pbx_id uuid constraint pbx_pkey primary key,
    name text not null constraint pbx_name_key unique,
    agent_address text,
    agent_identity text,
    sip_realm text not null default 'synergycall',
    -- Second key of the advisory lock under which an apply runs: a number of our own cannot collide
    -- with another PBX, as a hash of the id could.
    lock_key integer generated always as identity constraint pbx_lock_key_key unique,
    -- The last revision that was given to a bundle. It is the fencing token of the link to the
    -- agent, so it must never go back: restore a database backup only together with a higher value.
    last_revision bigint not null default 0
        constraint pbx_last_revision_check check (last_revision >= 0),
    created_at timestamptz not null default now()
);

-- An organisation that uses a PBX, with the range of its extension numbers. Several tenants may use
-- the same numbers.
create table tenant (
    tenant_id uuid constraint tenant_pkey primary key,
    pbx_id uuid not null constraint tenant_pbx_id_fkey references pbx,
    name text not null constraint tenant_name_key unique,
    metadata jsonb not null default '{}'
        constraint tenant_metadata_check check (jsonb_typeof(metadata) = 'object'),
    ext_min integer not null,
    ext_max integer not null,
    -- No number below this one is free. Allocation begins its search here and goes by index, so
    -- the 1000th extension is found as fast as the first; a deletion lowers it. Whoever widens the
    -- range downwards sets it to the new ext_min.
    ext_free_from integer not null,
    created_at timestamptz not null default now(),
    constraint tenant_ext_range_check
        check (ext_min between 10 and ext_max and ext_max <= 99999999),
    constraint tenant_ext_free_from_check check (ext_free_from between ext_min and ext_max + 1)
);

create index tenant_pbx_id_idx on tenant (pbx_id);

-- A person. A deleted user's row stays, marked, for the audit trail; its extension goes, so that
-- the number is free at once. The checks repeat what the portal's types guarantee, for whatever
-- reaches the table by another way.
create table "user" (
    user_id uuid constraint user_pkey primary key,
    tenant_id uuid not null constraint user_tenant_id_fkey references tenant,
    name text not null constraint user_name_check check (char_length(name) between 1 and 100),
    email text not null constraint user_email_check check (octet_length(email) <= 254),
    metadata jsonb not null default '{}'
        constraint user_metadata_check check (jsonb_typeof(metadata) = 'object'),
    created_at timestamptz not null,
    created_by text not null,
    deleted_at timestamptz,
    deleted_by text,
    constraint user_deleted_check check ((deleted_at is null) = (deleted_by is null)),
    -- What the foreign key of extension needs, so that nobody has an extension of another tenant.
    constraint user_tenant_user_key unique (tenant_id, user_id)
);

-- One living user per address. `lower` suffices because addresses are ASCII.
create unique index user_tenant_email_key on "user" (tenant_id, lower(email))
    where deleted_at is null;

-- A number that is taken, with the SIP account behind it. The primary key is what makes a number
-- unique: (tenant, number) in this order also serves the search for the lowest free one and
-- listing by number.
create table extension (
    tenant_id uuid not null constraint extension_tenant_id_fkey references tenant,
    number integer not null,
    user_id uuid not null constraint extension_user_key unique,
    allocated_at timestamptz not null,
    -- The number, as long as one tenant has the PBX to itself.
    sip_username text not null,
    -- XChaCha20-Poly1305 with the portal's key; the layout stands in the portal's `vault` module.
    sip_password_encrypted bytea not null,
    constraint extension_pkey primary key (tenant_id, number),
    constraint extension_user_fkey foreign key (tenant_id, user_id)
        references "user" (tenant_id, user_id)
);

-- The one PBX and the one tenant of the MVP (FR-016), with the range of FR-002.
insert into pbx (pbx_id, name) values ('01900000-0000-7000-8000-000000000001', 'default');

insert into tenant (tenant_id, pbx_id, name, ext_min, ext_max, ext_free_from)
values (
    '01900000-0000-7000-8000-000000000002',
    '01900000-0000-7000-8000-000000000001',
    'default', 1000, 1999, 1000
);
