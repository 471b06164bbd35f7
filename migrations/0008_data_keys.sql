-- The keys of secrets at rest, in two levels, so that they can be changed while portals run.

-- What every sealed column is encrypted with. New ones come with each rotation of the master key; a
-- rotation seals every row anew with the current one and drops the others.
create table data_key (
    data_key_id uuid constraint data_key_pkey primary key,
    created_at timestamptz not null default now(),
    -- Whoever seals holds this row FOR SHARE until its commit; whoever changes it locks the table
    -- in EXCLUSIVE mode. So nobody seals with an older key once a change is committed.
    is_current boolean not null
);

create unique index data_key_current_key on data_key (is_current) where is_current;

-- A data key, sealed under a master key (SECRET_KEY), which itself is in no database. Two master
-- keys wrap the same data keys between `secret-key rotate` and `secret-key retire`.
create table data_key_wrapping (
    data_key_id uuid not null constraint data_key_wrapping_data_key_id_fkey
        references data_key on delete cascade,
    -- The first octets of a hash of the master key.
    master_key_id bytea not null constraint data_key_wrapping_master_key_id_check
        check (octet_length(master_key_id) = 4),
    wrapped bytea not null,
    created_at timestamptz not null default now(),
    constraint data_key_wrapping_pkey primary key (data_key_id, master_key_id)
);
