-- Announces a term.
--
-- KEYS  1 stream, 2 leader (a hash: log_id, epoch, partitions, large, format)
-- ARGV  1 log_id, 2 epoch, 3 the number of partitions, 4 the format
-- Returns {answer, head} as append.lua does, or format and what that is, if it is not
-- this one, or evicts and the policy, if Redis may drop the stream to make room.
local leader = redis.call('HMGET', KEYS[2], 'log_id', 'epoch', 'partitions', 'large', 'format')
if leader[5] and leader[5] ~= ARGV[4] then
  return {'format', leader[5]}
end
if leader[1] and leader[1] ~= ARGV[1] then
  return {'foreign', leader[1]}
end
if leader[2] and tonumber(leader[2]) > tonumber(ARGV[2]) then
  return {'fenced', leader[2]}
end
local begins = leader[1] ~= ARGV[1] or leader[2] ~= ARGV[2]
if begins then
  -- Not CONFIG, which managed servers forbid. Where INFO is forbidden, too, the
  -- answer is a table, and nobody can know.
  local info = redis.pcall('INFO', 'memory')
  if type(info) == 'string' and string.match(info, 'maxmemory:(%d+)') ~= '0' then
    -- The stream never expires: volatile-* leaves it alone.
    local policy = string.match(info, 'maxmemory_policy:(allkeys%S+)')
    if policy then
      return {'evicts', policy}
    end
  end
end
local head = '0'
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      head = string.match(info[i + 1], '^%d+')
    end
  end
end
if begins or leader[3] ~= ARGV[3] or not leader[4] then
  -- Redis that is full refuses a script's first call that writes, unless it takes
  -- no memory. This one does nothing; HSET, in the place of what is there, may follow.
  redis.call('XTRIM', KEYS[1], 'MINID', 0)
  redis.call('HSET', KEYS[2], 'log_id', ARGV[1], 'epoch', ARGV[2], 'partitions', ARGV[3],
    'large', leader[4] or head) -- what is there may be large
end
return {'appended', head}
