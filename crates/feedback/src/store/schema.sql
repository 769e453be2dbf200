-- What people are asked, what they are shown, and what they say. Nothing that was said is ever changed or removed: a later
-- rating of the same assignment counts in place of the earlier one, and both are kept.

create table meta (
  name  text primary key,
  value text not null
) strict;

-- A prompt with its answers.
create table item (
  id           integer primary key,
  digest       text not null unique,  -- of messages, answers and who gave them
  source       text not null,         -- candidates, chat, import
  messages     text not null,         -- JSON: [{role, content}]
  extra        text not null,         -- JSON: further fields of its line, which no rater sees
  quota        integer not null,      -- how many raters rank it
  disagreement real                   -- how far reward models are apart on it
) strict;

create table answer (
  item     integer not null references item,
  position integer not null,          -- from 0
  text     text not null,
  models   text not null,             -- JSON: the names of those who gave it
  primary key (item, position)
) strict, without rowid;

create table rater (
  id   integer primary key,
  name text not null unique
) strict;

-- An item in the hands of a rater.
create table assignment (
  id           integer primary key,
  item         integer not null references item,
  rater        integer not null references rater,
  occurrence   integer not null,      -- 0, or 1 when it is asked a second time
  rule         text not null,         -- what chose it: random, disagreement, repeat, chat, import
  shown        text not null,         -- JSON: the positions of the answers, in the order of the page
  leased_until integer not null,      -- seconds since 1970
  draft        text,                  -- what the page had on it last
  unique (item, rater, occurrence)
) strict;
create index assignment_of_rater on assignment (rater);

create table rating (
  id         integer primary key,
  key        text not null unique,    -- the page's: the same one twice is one rating
  assignment integer not null references assignment,
  ranks      text,                    -- JSON, by position: 1 is best. Null for a skipped item
  all_bad    integer not null,
  skipped    text,                    -- why
  comment    text not null,
  seconds    real not null,           -- spent on it
  guidelines text not null,           -- their digest
  given      text,                    -- JSON: the row of a file that it was read from
  at         integer not null         -- seconds since 1970
) strict;
create index rating_of_assignment on rating (assignment);

-- Of the ratings of an assignment the last one counts.
create view counted as
  select rating.*, item, rater, occurrence, rule, shown
  from rating join assignment on assignment.id = rating.assignment
  where rating.id = (select max(id) from rating as other where other.assignment = rating.assignment);

-- A thumb on an answer of the chat page.
create table thumb (
  id       integer primary key,
  key      text not null unique,
  subject  text not null,             -- the page's name of the answer: the last thumb on it counts
  messages text not null,
  answer   text not null,
  label    integer,                   -- 1 good, 0 bad, null taken back
  about    text not null,             -- JSON: model, seed, settings
  at       integer not null
) strict;
create index thumb_on_subject on thumb (subject);
