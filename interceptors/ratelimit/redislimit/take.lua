-- Takes permits of several limits, or of none if one of them has too few.
--
-- For each limit there is a key, and five arguments: ticks in a microsecond, ticks in a permit, ticks in the burst, and the least and
-- the most permits to take. A key holds the time, in ticks, at which all its permits are back; an absent one is full.
--
-- Returns {index of the refused limit, microseconds until it has enough, now} or {0, 0, now, permits taken of each}.
local EPOCH = 1767225600000000 -- 2026-01-01, in microseconds
local EXACT = 9007199254740992 -- whole numbers below are exact

local time = redis.call('TIME')
local us = time[1] * 1000000 + time[2] - EPOCH
local back, taken = {}, {}

-- Everything is read before anything is written: an error undoes nothing.
for i, key in ipairs(KEYS) do
  local at = (i - 1) * 5
  local ratio, unit, burst = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local least, most = ARGV[at + 4] * unit, ARGV[at + 5] * unit
  local now = math.floor(us * ratio)
  if now + burst >= EXACT then
    return redis.error_reply('GRPCGUARD the clock is too far ahead')
  end
  -- The same key twice: the second time what the first has taken counts.
  local full = back[key]
  if not full then
    local stored = redis.call('GET', key)
    if not stored then
      full = now
    elseif string.match(stored, '^%-?%d+$') then
      full = tonumber(stored)
    else
      return redis.error_reply('GRPCGUARD a key holds what grpcguard did not write')
    end
  end
  -- Never more than full; and never emptier than empty, as it would be if the clock was set back.
  full = math.min(math.max(full, now), now + burst)
  local room = now + burst - full
  if room < least then
    local need = full + least - burst
    local when = math.ceil(need / ratio)
    while math.floor(when * ratio) < need do
      when = when + 1
    end
    return {i, when - us, us}
  end
  local n = least + math.floor((math.min(most, room) - least) / unit) * unit
  back[key] = full + n
  taken[i] = n / unit
end

for i, key in ipairs(KEYS) do
  local full = back[key]
  if full then
    local ratio = tonumber(ARGV[(i - 1) * 5 + 1])
    local ms = math.ceil((full - math.floor(us * ratio)) / ratio / 1000) + 1
    redis.call('SET', key, string.format('%.0f', full), 'PX', string.format('%.0f', ms))
    back[key] = nil
  end
end
return {0, 0, us, unpack(taken)}
