"""The Lua scripts of the queue index; each runs atomically.

A cluster has two keys, in one slot of a Redis Cluster. One is a sorted set of members, all with the same
score, so that Redis orders them by their bytes. The other is a hash of `generation:member` by deployment. Its
field `built` names the Redis server on which the index was built: any other value, or none, means that the
index does not match the rows, because it was flushed or comes from an old copy.
"""

from __future__ import annotations

APPLY = """
-- KEYS: order, places, then the tombstone key of each change
-- ARGV: server, tombstone seconds, then id, generation and member ('' for none) of each change
if redis.call('HGET', KEYS[2], 'built') ~= ARGV[1] then return 0 end
for i = 0, #KEYS - 3 do
  local id, generation, member = ARGV[3 + 3 * i], tonumber(ARGV[4 + 3 * i]), ARGV[5 + 3 * i]
  local stored, old, newest = redis.call('HGET', KEYS[2], id), nil, nil
  if stored then
    local colon = string.find(stored, ':', 1, true)
    newest, old = tonumber(string.sub(stored, 1, colon - 1)), string.sub(stored, colon + 1)
  else
    newest = tonumber(redis.call('GET', KEYS[3 + i]) or '-1') + 1
  end
  if generation >= newest then
    if old then redis.call('ZREM', KEYS[1], old) end
    if member == '' then
      redis.call('HDEL', KEYS[2], id)
      redis.call('SET', KEYS[3 + i], ARGV[4 + 3 * i], 'EX', ARGV[2])
    else
      redis.call('ZADD', KEYS[1], 0, member)
      redis.call('HSET', KEYS[2], id, ARGV[4 + 3 * i] .. ':' .. member)
    end
  end
end
return 1
"""

LOCATE = """
-- KEYS: order, places; ARGV: server, then member and id of each deployment
if redis.call('HGET', KEYS[2], 'built') ~= ARGV[1] then return false end
if redis.call('ZCARD', KEYS[1]) ~= redis.call('HLEN', KEYS[2]) - 1 then return false end
local found = {}
for i = 2, #ARGV, 2 do
  found[#found + 1] = tostring(redis.call('ZLEXCOUNT', KEYS[1], '-', '(' .. ARGV[i]))
  found[#found + 1] = redis.call('HGET', KEYS[2], ARGV[i + 1]) or ''
end
return found
"""

INSTALL = """
-- KEYS: order, places, new order, new places; ARGV: server, seconds to keep
redis.call('UNLINK', KEYS[1], KEYS[2])
if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('RENAME', KEYS[3], KEYS[1]) end
redis.call('RENAME', KEYS[4], KEYS[2])
redis.call('HSET', KEYS[2], 'built', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return 1
"""
