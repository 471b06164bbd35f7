-- Tenants with a life, users with settings, and devices: sets of SIP credentials, several to a user.
--
-- Tenants are kept apart by their id in every key and foreign key: a row of one tenant cannot name
-- a row of another. Every row that can be changed has a version, raised by each change, which is
-- what an If-Match of HTTP names.

-- Of PostgreSQL's own contrib, and trusted: the owner of a database may create them. Search finds
-- parts of names by the index of the one; with the other that index begins with the tenant, so that
-- nobody's search pays for other tenants. Without fastupdate it has no list of what is still to be
-- sorted in, which every search would read from end to end.
create extension if not exists pg_trgm;
create extension if not exists btree_gin;

alter table tenant
    -- What a URL calls it; shorter than a UUID, so that the two cannot be confused.
    add column slug text
        constraint tenant_slug_check check (slug ~ '^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$'),
    -- Part of the names that its endpoints and contexts have on the PBX; never given twice.
    add column number integer generated always as identity constraint tenant_number_key unique,
    add column status text not null default 'active'
        constraint tenant_status_check check (status in ('active', 'suspended')),
    -- Where calls from outside go, and who may call outside: null until there are such things.
    add column default_inbound_destination jsonb,
    add column outbound_policy_id uuid,
    add column version bigint not null default 1,
    add column updated_at timestamptz not null default now(),
    add column deleted_at timestamptz,
    add column deleted_by text,
    drop constraint tenant_name_key,
    add constraint tenant_name_check check (char_length(name) between 1 and 100),
    add constraint tenant_deleted_check check ((deleted_at is null) = (deleted_by is null));

update tenant set slug = 'default' where slug is null;
alter table tenant alter column slug set not null;

create unique index tenant_slug_key on tenant (slug) where deleted_at is null;
create index tenant_name_idx on tenant (lower(name), tenant_id) where deleted_at is null;
create index tenant_status_idx on tenant (status, tenant_id) where deleted_at is null;
create index tenant_search_idx on tenant using gin (lower(name) gin_trgm_ops)
    with (fastupdate = off)
    where deleted_at is null;

alter table "user"
    -- A suspended user keeps the number and is out of service.
    add column status text not null default 'active'
        constraint user_status_check check (status in ('active', 'suspended')),
    add column role text not null default 'user'
        constraint user_role_check check (role in ('user', 'operator', 'tenant_admin')),
    add column outbound_caller_id text
        constraint user_outbound_caller_id_check check (outbound_caller_id ~ '^\+?[0-9]{1,20}$'),
    add column voicemail_enabled boolean not null default false,
    -- Argon2id in the PHC string format.
    add column voicemail_pin_hash text,
    add column dnd_enabled boolean not null default false,
    add column forward_always text
        constraint user_forward_always_check check (forward_always ~ '^\+?[0-9]{1,20}$'),
    add column forward_busy text
        constraint user_forward_busy_check check (forward_busy ~ '^\+?[0-9]{1,20}$'),
    add column forward_no_answer text
        constraint user_forward_no_answer_check check (forward_no_answer ~ '^\+?[0-9]{1,20}$'),
    add column forward_unregistered text
        constraint user_forward_unregistered_check
        check (forward_unregistered ~ '^\+?[0-9]{1,20}$'),
    add column forward_delay_seconds smallint not null default 25
        constraint user_forward_delay_check check (forward_delay_seconds between 5 and 120),
    add column version bigint not null default 1,
    add column updated_at timestamptz;

update "user" set updated_at = created_at;
alter table "user" alter column updated_at set not null;

-- What lists are sorted by and searched in.
create index user_tenant_name_idx on "user" (tenant_id, lower(name), user_id)
    where deleted_at is null;
create index user_tenant_created_idx on "user" (tenant_id, created_at, user_id)
    where deleted_at is null;
-- Digits in a search are the beginning of a number.
create index extension_tenant_text_idx on extension (tenant_id, (number::text) text_pattern_ops);
create index user_tenant_deleted_idx on "user" (tenant_id, deleted_at, user_id)
    where deleted_at is not null;
create index user_search_idx on "user"
    using gin (tenant_id, (lower(name) || ' ' || lower(email)) gin_trgm_ops)
    with (fastupdate = off);
-- How many a search will find decides whether that index or the order of the list leads to them.
create statistics user_search_stats on (lower(name) || ' ' || lower(email)) from "user";
-- What lists are filtered by.
create index user_tenant_status_idx on "user" (tenant_id, status) where deleted_at is null;
create index user_tenant_role_idx on "user" (tenant_id, role) where deleted_at is null;

-- A set of SIP credentials: one endpoint of Asterisk. Its name there is made of the tenant's number,
-- the extension and the slot, so that it needs no column and cannot collide.
create table device (
    device_id uuid constraint device_pkey primary key,
    tenant_id uuid not null,
    user_id uuid not null,
    -- The lowest that is free among the devices of the user.
    slot smallint not null constraint device_slot_check check (slot between 1 and 26),
    label text not null constraint device_label_check check (char_length(label) between 1 and 60),
    -- Sealed; the layout stands in the portal's `vault` module.
    sip_password_encrypted bytea not null,
    password_set_at timestamptz not null,
    -- When the password was shown, which happens once. Null: not yet.
    password_revealed_at timestamptz,
    -- The password before this one, which works as well until then, and beyond it until the next
    -- apply.
    previous_sip_password_encrypted bytea,
    overlap_until timestamptz,
    digest_algorithm text not null default 'md5' constraint device_digest_algorithm_check
        check (digest_algorithm in ('md5', 'sha256', 'sha512_256')),
    -- Null: whichever the phone comes by.
    transport text constraint device_transport_check
        check (transport in ('udp', 'tcp', 'tls', 'ws', 'wss')),
    rtp_symmetric boolean not null default true,
    force_rport boolean not null default true,
    rewrite_contact boolean not null default true,
    direct_media boolean not null default false,
    codecs text[] not null default '{ulaw,alaw}' constraint device_codecs_check
        check (codecs <@ '{ulaw,alaw,g722,opus}' and array_length(codecs, 1) between 1 and 4),
    enabled boolean not null default true,
    created_at timestamptz not null,
    created_by text not null,
    updated_at timestamptz not null,
    version bigint not null default 1,
    -- Nobody has a device of another tenant.
    constraint device_user_fkey foreign key (tenant_id, user_id)
        references "user" (tenant_id, user_id),
    constraint device_user_slot_key unique (user_id, slot),
    constraint device_overlap_check
        check ((previous_sip_password_encrypted is null) = (overlap_until is null))
);

create index device_tenant_created_idx on device (tenant_id, created_at, device_id);
create index device_tenant_label_idx on device (tenant_id, lower(label), device_id);
create index device_tenant_user_idx on device (tenant_id, user_id);
create index device_tenant_enabled_idx on device (tenant_id, enabled, created_at, device_id);
create index device_search_idx on device using gin (tenant_id, lower(label) gin_trgm_ops)
    with (fastupdate = off);

-- The account that each extension had becomes its user's first device. It keeps the user's id,
-- because that is what its password is sealed for.
insert into device (
    device_id, tenant_id, user_id, slot, label, sip_password_encrypted, password_set_at,
    password_revealed_at, created_at, created_by, updated_at
)
select e.user_id, e.tenant_id, e.user_id, 1, 'Phone', e.sip_password_encrypted, e.allocated_at,
    e.allocated_at, e.allocated_at, u.created_by, e.allocated_at
from extension e
join "user" u on u.user_id = e.user_id;

alter table extension
    drop column sip_username,
    drop column sip_password_encrypted;
