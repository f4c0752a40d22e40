-- Compare and append: all of the entries or none, each offset once or not at
-- all. Redis runs a script as one step, so nothing comes between.
--
-- KEYS  1 stream, 2 leader (a hash: log_id, epoch, large)
-- ARGV  1 log_id, 2 epoch, 3 first offset, 4 the offset of the last large entry
--       or '', 5 the entries: a list, in MessagePack, of runs as entry.go has them
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
if head < offset - 1 then
  return {'behind', string.format('%d', head)}
end
local runs = cmsgpack.unpack(ARGV[5])
-- How many values each entry of a run has, by the fields that it has besides those
-- that all have.
local sizes = {[''] = 3, key = 4, headers = 4, both = 5}

if head >= offset then
  -- Two histories that have parted never meet again: if the last entry that
  -- both have is the same, so are those before it.
  local run, at, common = nil, nil, offset - 1
  for _, r in ipairs(runs) do
    for i = 5, #r, sizes[r[4]] do
      if common < head then
        run, at, common = r, i, common + 1
      end
    end
  end
  local id = string.format('%d-0', common)
  local held = redis.call('XRANGE', KEYS[1], id, id)[1]
  if held then
    local has = run[4]
    local sent = {data = run[at + 1], action = run[1], object = run[2], staged_at = run[at + 2]}
    sent.content_type = run[3] ~= '' and run[3] or nil
    sent.key = (has == 'key' or has == 'both') and run[at + 3] or nil
    sent.headers = (has == 'headers' or has == 'both') and run[at + sizes[has] - 1] or nil
    for j = 1, #held[2], 2 do
      if sent[held[2][j]] ~= held[2][j + 1] then
        return {'diverged', string.format('%d', common)}
      end
      sent[held[2][j]] = nil
    end
    if next(sent) then
      return {'diverged', string.format('%d', common)}
    end
  end
  return {'already', string.format('%d', head)}
end

-- If Redis is full it refuses the first call that writes, and none after it.
if leader[1] ~= ARGV[1] or leader[2] ~= ARGV[2] then
  redis.call('HSET', KEYS[2], 'log_id', ARGV[1], 'epoch', ARGV[2])
end
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[2], 'large', ARGV[4])
end
-- Each argument of XADD costs time, and so would a table of them: fields that
-- carry nothing are left out.
local call, stream = redis.call, KEYS[1]
for _, run in ipairs(runs) do
  local action, object, content_type, has = run[1], run[2], run[3], run[4]
  for i = 5, #run, sizes[has] do
    local id, data, staged_at = run[i], run[i + 1], run[i + 2]
    if content_type ~= '' then
      local fields = {}
      if has == 'key' or has == 'both' then
        fields = {'key', run[i + 3]}
      end
      if has == 'headers' or has == 'both' then
        fields[#fields + 1], fields[#fields + 2] = 'headers', run[i + sizes[has] - 1]
      end
      call('XADD', stream, id, 'data', data, 'action', action, 'object', object, 'staged_at', staged_at,
        'content_type', content_type, unpack(fields))
    elseif has == 'key' then
      call('XADD', stream, id, 'data', data, 'action', action, 'object', object, 'staged_at', staged_at, 'key', run[i + 3])
    elseif has == '' then
      call('XADD', stream, id, 'data', data, 'action', action, 'object', object, 'staged_at', staged_at)
    elseif has == 'headers' then
      call('XADD', stream, id, 'data', data, 'action', action, 'object', object, 'staged_at', staged_at, 'headers', run[i + 3])
    else
      call('XADD', stream, id, 'data', data, 'action', action, 'object', object, 'staged_at', staged_at,
        'key', run[i + 3], 'headers', run[i + 4])
    end
    offset = offset + 1
  end
end
return {'appended', string.format('%d', offset - 1)}
