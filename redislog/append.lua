-- Compare and append: all of the entries or none, each offset once or not at
-- all. Redis runs a script as one step, so nothing comes between.
--
-- KEYS  1 stream, 2 leader (a hash: log_id, epoch)
-- ARGV  1 log_id, 2 epoch, 3 first offset, and then six for each entry: data,
--       action, object, staged_at, key, headers, of which the last two may be
--       empty
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
local each = 6
local last = #ARGV - each + 1
if head < offset - 1 then
  return {'behind', string.format('%.0f', head)}
end
if head >= offset then
  -- Two histories that have parted never meet again: if the last entry that
  -- both have is the same, so are those before it.
  local i = math.min(4 + (head - offset) * each, last)
  offset = offset + (i - 4) / each
  local id = string.format('%.0f-0', offset)
  local held = redis.call('XRANGE', KEYS[1], id, id)[1]
  if held then
    local sent = {
      data = ARGV[i], action = ARGV[i + 1], object = ARGV[i + 2], staged_at = ARGV[i + 3],
      key = ARGV[i + 4] ~= '' and ARGV[i + 4] or nil, headers = ARGV[i + 5] ~= '' and ARGV[i + 5] or nil,
    }
    for j = 1, #held[2], 2 do
      if sent[held[2][j]] ~= held[2][j + 1] then
        return {'diverged', string.format('%.0f', offset)}
      end
      sent[held[2][j]] = nil
    end
    if next(sent) then
      return {'diverged', string.format('%.0f', offset)}
    end
  end
  return {'already', string.format('%.0f', head)}
end

if leader[1] ~= ARGV[1] or leader[2] ~= ARGV[2] then
  redis.call('HSET', KEYS[2], 'log_id', ARGV[1], 'epoch', ARGV[2])
end
-- Every argument of XADD costs time, and so would a table of them: fields that
-- carry nothing are left out.
local call, stream, format = redis.call, KEYS[1], string.format
for i = 4, last, each do
  local id, key, headers = format('%.0f-0', offset), ARGV[i + 4], ARGV[i + 5]
  if headers ~= '' and key ~= '' then
    call('XADD', stream, id, 'data', ARGV[i], 'action', ARGV[i + 1], 'object', ARGV[i + 2], 'staged_at', ARGV[i + 3],
      'key', key, 'headers', headers)
  elseif headers ~= '' then
    call('XADD', stream, id, 'data', ARGV[i], 'action', ARGV[i + 1], 'object', ARGV[i + 2], 'staged_at', ARGV[i + 3],
      'headers', headers)
  elseif key ~= '' then
    call('XADD', stream, id, 'data', ARGV[i], 'action', ARGV[i + 1], 'object', ARGV[i + 2], 'staged_at', ARGV[i + 3],
      'key', key)
  else
    call('XADD', stream, id, 'data', ARGV[i], 'action', ARGV[i + 1], 'object', ARGV[i + 2], 'staged_at', ARGV[i + 3])
  end
  offset = offset + 1
end
return {'appended', string.format('%.0f', offset - 1)}
