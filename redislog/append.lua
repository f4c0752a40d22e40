-- Compare and append: all of the entries or none, each offset once or not at
-- all. Redis runs a script as one step, so nothing comes between.
--
-- KEYS  1 stream, 2 leader (a hash: log_id, epoch)
-- ARGV  1 log_id, 2 epoch, 3 first offset, and then for each entry the number
--       of its arguments followed by them: field, value, field, value, …
-- Returns {answer, head}: appended, already or behind, and the head; diverged
-- and the offset; fenced and the newer epoch; foreign and the other log_id.
local leader = redis.call('HMGET', KEYS[2], 'log_id', 'epoch')
if leader[1] and leader[1] ~= ARGV[1] then
  return {'foreign', leader[1]}
end
if leader[2] and tonumber(leader[2]) > tonumber(ARGV[2]) then
  return {'fenced', leader[2]}
end

local head = 0
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      head = tonumber(string.match(info[i + 1], '^%d+'))
    end
  end
end

local offset = tonumber(ARGV[3])
local i, n = 4, #ARGV
if head < offset - 1 then
  return {'behind', string.format('%.0f', head)}
end
if head >= offset then
  -- Two histories that have parted never meet again: if the last entry that
  -- both have is the same, so are those before it.
  while offset < head and i + tonumber(ARGV[i]) < n do
    i = i + tonumber(ARGV[i]) + 1
    offset = offset + 1
  end
  local id = string.format('%.0f-0', offset)
  local held = redis.call('XRANGE', KEYS[1], id, id)[1]
  if held then
    local same = #held[2] == tonumber(ARGV[i])
    for j, value in ipairs(held[2]) do
      same = same and value == ARGV[i + j]
    end
    if not same then
      return {'diverged', string.format('%.0f', offset)}
    end
  end
  return {'already', string.format('%.0f', head)}
end

if leader[1] ~= ARGV[1] or leader[2] ~= ARGV[2] then
  redis.call('HSET', KEYS[2], 'log_id', ARGV[1], 'epoch', ARGV[2])
end
while i <= n do
  local fields = tonumber(ARGV[i])
  redis.call('XADD', KEYS[1], string.format('%.0f-0', offset), unpack(ARGV, i + 1, i + fields))
  i = i + fields + 1
  offset = offset + 1
end
return {'appended', string.format('%.0f', offset - 1)}
