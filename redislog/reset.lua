-- Empties the stream and makes an offset its last one.
--
-- KEYS  1 stream, 2 leader (a hash: log_id, epoch, large)
-- ARGV  1 log_id, 2 epoch, 3 the offset
-- Returns as append.lua does.
local leader = redis.call('HMGET', KEYS[2], 'log_id', 'epoch')
if leader[1] and leader[1] ~= ARGV[1] then
  return {'foreign', leader[1]}
end
if leader[2] and tonumber(leader[2]) > tonumber(ARGV[2]) then
  return {'fenced', leader[2]}
end
-- First of all, since Redis that is full takes nothing else.
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[2], 'log_id', ARGV[1], 'epoch', ARGV[2], 'large', '0')
if ARGV[3] ~= '0' then
  -- Only an entry can create a stream, and with it set the last id.
  redis.call('XADD', KEYS[1], ARGV[3] .. '-0', 'data', '')
  redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)
end
return {'appended', ARGV[3]}
