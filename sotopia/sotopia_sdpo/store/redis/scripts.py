"""The steps of a Redis store that must not be interrupted, as Lua scripts, and the names of its keys.

Everything stands under PREFIX, behind a prefix of the user's where there is one, in plain strings, sets and hashes, so
any Redis will do:

    sdpo:tags              set of tags
    sdpo:heads:TAG         hash of pk -> head as JSON
    sdpo:episode:PK        hash of tag, at, text
    sdpo:at:KEY            hash of pk -> status, the episodes of one key
    sdpo:profiles:KIND     hash of pk -> profile as JSON
    sdpo:claim:KEY         string "UNTIL_MS OWNER", -UNTIL_MS in its last call; of a call, KEY is answer:REQUEST
    sdpo:staged:ID         hash of number -> entry, of an import that is under way
    sdpo:done:ID           string, for ten minutes: an import that was taken over, questions that were given up
    sdpo:answer:REQUEST    string, an answer of a model with its request as JSON
    sdpo:rounds            hash of request -> how many runs have given it up

Invariant: only these scripts write, so the first four always agree. A claim that ran out stays for a day,
so that an owner who only slept finds it again as long as nobody else took it; and since it may have run out while the
server was away, the first who asks for it only begins a last call, in which its owner can renew it. Each script may be
run twice.
"""

PREFIX = "sdpo:"
KEPT_CLAIM_MS = 24 * 3600 * 1000
LONGEST_CLAIM_MS = 60 * 1000
"""What lasts longer was written by another clock: the server's has been set back, or another host has taken over."""

_COMMON = f"""
local P = KEYS[1]
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function forget(pk)
  local known = redis.call('HMGET', P .. 'episode:' .. pk, 'tag', 'at')
  if not known[1] then return 0 end
  redis.call('DEL', P .. 'episode:' .. pk)
  redis.call('HDEL', P .. 'at:' .. known[2], pk)
  redis.call('HDEL', P .. 'heads:' .. known[1], pk)
  if redis.call('HLEN', P .. 'heads:' .. known[1]) == 0 then redis.call('SREM', P .. 'tags', known[1]) end
  return 1
end
local function put(pk, tag, at, status, head, text)
  forget(pk)
  redis.call('HSET', P .. 'episode:' .. pk, 'tag', tag, 'at', at, 'text', text)
  redis.call('HSET', P .. 'at:' .. at, pk, status)
  redis.call('HSET', P .. 'heads:' .. tag, pk, head)
  redis.call('SADD', P .. 'tags', tag)
end
local function holder(at)
  local claim = redis.call('GET', P .. 'claim:' .. at)
  if not claim then return nil, 0 end
  local space = string.find(claim, ' ', 1, true)
  return string.sub(claim, space + 1), tonumber(string.sub(claim, 1, space - 1))
end
local function is_alive(until_ms)
  local left = math.abs(until_ms) - now_ms()
  return left > 0 and left <= {LONGEST_CLAIM_MS}
end
local function hold(at, owner, ttl_ms, last_call)
  local claim = string.format('%s%d %s', last_call or '', now_ms() + ttl_ms, owner)
  redis.call('SET', P .. 'claim:' .. at, claim, 'PX', ttl_ms + {KEPT_CLAIM_MS})
end
"""

PUT = (
    _COMMON
    + """
local owner, pk, tag, at, status, head, text = unpack(ARGV)
if owner ~= '' then
  -- The same text again is a command repeated after its answer was lost.
  if redis.call('HGET', P .. 'episode:' .. pk, 'text') == text then return 1 end
  if holder(at) ~= owner then return 0 end
  local tries = redis.call('HGETALL', P .. 'at:' .. at)
  for i = 1, #tries, 2 do
    if tries[i + 1] ~= 'scored' then forget(tries[i]) end
  end
  redis.call('DEL', P .. 'claim:' .. at)
end
put(pk, tag, at, status, head, text)
return 1
"""
)
"""ARGV: owner or '', then pk, tag, at, status, head, text."""

COMMIT = (
    _COMMON
    + """
local staged, done = P .. 'staged:' .. ARGV[1], P .. 'done:' .. ARGV[1]
-- Done already: a command repeated after its answer was lost.
if redis.call('EXISTS', done) == 1 then return tonumber(ARGV[2]) end
local count = redis.call('HLEN', staged)
if count ~= tonumber(ARGV[2]) then return count end
for number = 0, count - 1 do
  local record = cjson.decode(redis.call('HGET', staged, number))
  if #record == 3 then
    redis.call('HSET', P .. 'profiles:' .. record[1], record[2], record[3])
  else
    put(unpack(record))
  end
end
redis.call('DEL', staged)
redis.call('SET', done, count, 'EX', 600)
return count
"""
)
"""ARGV: the import's id, how many entries were staged; each is [kind, pk, text] or what put takes."""

CLAIM = (
    _COMMON
    + """
local at, owner, ttl_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
for _, status in ipairs(redis.call('HVALS', P .. 'at:' .. at)) do
  if status == 'scored' then return 0 end
end
local other, until_ms = holder(at)
if other and other ~= owner then
  if is_alive(until_ms) then return 0 end
  if until_ms > 0 then
    hold(at, other, math.floor(ttl_ms / 4), '-')
    return 0
  end
end
hold(at, owner, ttl_ms)
return 1
"""
)
"""ARGV: at, owner, ttl_ms."""

RENEW = (
    _COMMON
    + """
local kept = {}
for i = 3, #ARGV do
  if holder(ARGV[i]) == ARGV[1] then
    hold(ARGV[i], ARGV[1], tonumber(ARGV[2]))
    kept[#kept + 1] = ARGV[i]
  end
end
return kept
"""
)
"""ARGV: owner, ttl_ms, then each at; returns those that are still the owner's."""

RELEASE = (
    _COMMON
    + """
for i = 2, #ARGV do
  if holder(ARGV[i]) == ARGV[1] then redis.call('DEL', P .. 'claim:' .. ARGV[i]) end
end
return 1
"""
)
"""ARGV: owner, then each at."""

DELETE = (
    _COMMON
    + """
local count = 0
for _, pk in ipairs(ARGV) do count = count + forget(pk) end
return count
"""
)
"""ARGV: each pk; returns how many there were."""

FORGET = (
    _COMMON
    + """
local count, heads = 0, P .. 'heads:' .. ARGV[1]
for i = 2, #ARGV, 2 do
  if redis.call('EXISTS', P .. 'episode:' .. ARGV[i]) == 0 then
    count = count + redis.call('HDEL', heads, ARGV[i])
    redis.call('HDEL', P .. 'at:' .. ARGV[i + 1], ARGV[i])
  end
end
if redis.call('HLEN', heads) == 0 then redis.call('SREM', P .. 'tags', ARGV[1]) end
return count
"""
)
"""ARGV: a tag, then pk and at of each episode of it; forgets those whose text a full server has dropped."""

GIVE_UP = (
    _COMMON
    + """
local done = P .. 'done:' .. ARGV[1]
-- Done already: a command repeated after its answer was lost.
if redis.call('EXISTS', done) == 1 then return 0 end
for i = 2, #ARGV do redis.call('HINCRBY', P .. 'rounds', ARGV[i], 1) end
redis.call('SET', done, 1, 'EX', 600)
return 1
"""
)
"""ARGV: an id of this call, then each request."""
