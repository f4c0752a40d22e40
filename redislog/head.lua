-- KEYS  1 stream, 2 leader (a hash: log_id, epoch, partitions, large, format)
-- Returns {log_id, epoch, partitions, last id, large, format}, each "" where there is none.
local leader = redis.call('HMGET', KEYS[2], 'log_id', 'epoch', 'partitions', 'large', 'format')
local last = ''
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      last = info[i + 1]
    end
  end
end
return {leader[1] or '', leader[2] or '', leader[3] or '', last, leader[4] or '', leader[5] or ''}
