"""What a Redis does in one step, in Lua: the books and the values of `store.redis`. For Redis 5 and newer, and Valkey.

Numbers of Lua's are exact up to 2**53 and amounts go up to 2**63, so these stay texts: Redis adds them (HINCRBY), and
sums are compared in two halves. Times are the server's own, in milliseconds.
"""

from __future__ import annotations

_NOW = """
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function whole(number) return string.format('%.0f', number) end
"""

_RELEASE = """
local function release(ends, held, reserved, name)
  local found = redis.call('HGET', held, name)
  if not found then return end
  local one = cjson.decode(found)
  for i = 2, #one do
    if redis.call('HINCRBY', reserved, one[i], '-' .. one[1]) == 0 then redis.call('HDEL', reserved, one[i]) end
  end
  redis.call('HDEL', held, name)
  redis.call('ZREM', ends, name)
end
"""

# KEYS: what marks this as told, ends, held, reserved, books. ARGV: for how long it is marked, and a book kept; how many
# reservations end, their names; and for each book, how many changes, and name and change of each.
COUNT = f"""{_RELEASE}
if not redis.call('SET', KEYS[1], '', 'PX', ARGV[1], 'NX') then return 0 end
local done, at = {{}}, 4 + tonumber(ARGV[3])
for b = 5, #KEYS do
  for _ = 1, tonumber(ARGV[at]) do
    local name, change = ARGV[at + 1], ARGV[at + 2]
    local answer = redis.pcall('HINCRBY', KEYS[b], name, change)
    if type(answer) == 'table' then
      for _, one in ipairs(done) do
        local back = one[3]:sub(1, 1) == '-' and one[3]:sub(2) or '-' .. one[3]
        redis.call('HINCRBY', one[1], one[2], back)
      end
      redis.call('DEL', KEYS[1])
      return answer
    end
    done[#done + 1] = {{KEYS[b], name, change}}
    at = at + 2
  end
  at = at + 1
  if redis.call('PTTL', KEYS[b]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[b], ARGV[2]) end
end
for i = 4, 3 + tonumber(ARGV[3]) do release(KEYS[2], KEYS[3], KEYS[4], ARGV[i]) end
return 1
"""

# KEYS: ends, held, reserved, books. ARGV: the reservation, its amount, for how long; the counter that is spent; and
# name and limit of each book. Returns what is spent and reserved in each.
RESERVE = f"""{_NOW}{_RELEASE}
local function halves(number)
  local sign, digits = number:match('^(%-?)(%d+)$')
  local cut = math.max(#digits - 9, 0)
  local high, low = tonumber(digits:sub(1, cut)) or 0, tonumber(digits:sub(cut + 1))
  if sign == '-' then return -high, -low end
  return high, low
end
local function fits(limit, ...)
  local high, low = halves(limit)
  for _, number in ipairs({{...}}) do
    local more, rest = halves(number)
    high, low = high - more, low - rest
  end
  return high * 1e9 + low >= 0
end
local ends, held, reserved, name, amount = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2]
local time = now()
for _, ended in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', whole(time))) do
  release(ends, held, reserved, ended)
end
local granted, balances, one = amount ~= '0', {{}}, {{amount}}
for b = 4, #KEYS do
  local book, limit = ARGV[2 * b - 3], ARGV[2 * b - 2]
  local spent = redis.call('HGET', KEYS[b], ARGV[4]) or '0'
  local taken = redis.call('HGET', reserved, book) or '0'
  granted = granted and fits(limit, spent, taken, amount)
  balances[#balances + 1] = {{spent, taken}}
  one[#one + 1] = book
end
if granted then
  release(ends, held, reserved, name)
  redis.call('ZADD', ends, whole(time + ARGV[3]), name)
  redis.call('HSET', held, name, cjson.encode(one))
  for i = 2, #one do redis.call('HINCRBY', reserved, one[i], amount) end
end
return balances
"""

# KEYS: ends. ARGV: for how long, and the reservations.
RENEW = f"""{_NOW}
local time = now()
for i = 2, #ARGV do
  local ends = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if ends and tonumber(ends) > time then redis.call('ZADD', KEYS[1], whole(time + ARGV[1]), ARGV[i]) end
end
return 1
"""

# KEYS: the value, the index, when values end. ARGV: the value, for how long, its key, what else the index says of it.
# Each time, some that have ended leave the index.
SET = f"""{_NOW}
local time = now()
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('HSET', KEYS[2], ARGV[3], whole(time) .. ' ' .. whole(time + ARGV[2]) .. ' ' .. ARGV[4])
redis.call('ZADD', KEYS[3], whole(time + ARGV[2]), ARGV[3])
for _, ended in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', whole(time), 'LIMIT', 0, 10)) do
  redis.call('HDEL', KEYS[2], ended)
  redis.call('ZREM', KEYS[3], ended)
end
return 1
"""

# KEYS: the index, when values end, the values. ARGV: of each, its key and what the index says of it: one that was set
# anew meanwhile stays.
CLEAR = """
local count = 0
for k = 3, #KEYS do
  local key, said = ARGV[2 * k - 5], ARGV[2 * k - 4]
  if redis.call('HGET', KEYS[1], key) == said then
    count = count + redis.call('UNLINK', KEYS[k])
    redis.call('HDEL', KEYS[1], key)
    redis.call('ZREM', KEYS[2], key)
  end
end
return count
"""
