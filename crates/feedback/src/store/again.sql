-- Ratings that are doubted: they are asked for again, or kept as they are. Since version 2.

create table again (
  assignment integer primary key references assignment,
  rating     integer not null,        -- the one that counted then: a later one is the answer
  kept       integer not null         -- whether the owner lets it stand
) strict;
