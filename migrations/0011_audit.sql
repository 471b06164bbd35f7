-- Who changed what, and who was refused what. Rows are written in the transaction of the change and
-- never changed.

create table audit_entry (
    audit_entry_id uuid constraint audit_entry_pkey primary key,
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
    -- Null: of the whole portal.
    tenant_id uuid,
    -- What the next apply of this PBX carries. Null: it concerns no PBX.
    pbx_id uuid,
    -- What it was and what it became, without secrets.
    before jsonb,
    after jsonb,
    source_address text not null,
    request_id text not null
);
