-- A restore can stand in line as well.

alter table queued_apply
    -- Whose bundle it brings back. Null: it renders what the database says when its turn comes.
    add column restored_from uuid constraint queued_apply_restored_from_fkey references apply;
