-- Disabled channels are told things too, which wait for them; and metrics count them.
drop index channels_live;
create index channels_disabled on channels (channel_id) where disabled_at is not null and deleted_at is null;
