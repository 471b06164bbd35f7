-- What whoever is confined to a tenant may see of the applies of a PBX that several tenants share.

alter table apply
    -- The tenant that whoever asked is confined to: others are not told who that was. Null: none.
    add column requested_tenant uuid constraint apply_requested_tenant_fkey references tenant,
    -- How many of the users in the snapshot are of which tenant: {"<number>": count}.
    add column user_counts jsonb not null default '{}'
        constraint apply_user_counts_check check (jsonb_typeof(user_counts) = 'object');

update apply set user_counts = coalesce((
    select jsonb_object_agg(tenant, users)
    from (
        -- Of before there were several tenants, all are of the default one.
        select coalesce(included ->> 'tenant', '1') as tenant, count(*) as users
        from jsonb_array_elements(apply.users) included
        group by 1
    ) counted
), '{}');

alter table queued_apply
    add column requested_tenant uuid constraint queued_apply_requested_tenant_fkey
        references tenant;

-- Of a request by name or text, whoever is confined to a tenant finds those of the own tenant only.
create index apply_requested_tenant_idx on apply (requested_tenant, started_at, apply_id)
    where requested_tenant is not null;
