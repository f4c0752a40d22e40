-- Reads entries until they have so many bytes. It takes few at a time, as it knows
-- their size only when it has them.
--
-- KEYS  1 stream
-- ARGV  1 the id after which to read, 2 how many entries, 3 how many bytes
-- Returns the entries as XRANGE does.
local entries, after, limit, bytes = {}, ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
while true do
  local reply = redis.call('XREAD', 'COUNT', 4, 'STREAMS', KEYS[1], after)
  if not reply then
    return entries
  end
  for _, entry in ipairs(reply[1][2]) do
    entries[#entries + 1] = entry
    after = entry[1]
    for _, text in ipairs(entry[2]) do
      bytes = bytes - #text
    end
    if bytes <= 0 or #entries == limit then
      return entries
    end
  end
end
