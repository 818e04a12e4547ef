-- Orthanc as the receiver before the inbox: it hands each instance over, whole and under a final name, and keeps no copy.
-- In its configuration:  "LuaScripts": ["/opt/chest-screening/deploy/orthanc.lua"]   and the calling AE titles it accepts.
-- In its environment:    INBOX=/srv/chest-screening/inbox   a folder that its user may write to.
local INBOX = assert(os.getenv('INBOX'), 'set INBOX to the folder that the screening watches')

function OnStoredInstance(id, tags, metadata, origin)
  local draft = INBOX .. '/' .. id .. '.dcm.partial' -- the watcher passes such names over
  local file = assert(io.open(draft, 'wb'))
  assert(file:write(RestApiGet('/instances/' .. id .. '/file')))
  assert(file:close())
  assert(os.rename(draft, INBOX .. '/' .. id .. '.dcm'))
  RestApiDelete('/instances/' .. id) -- only once it is handed over; an error above keeps it here
end
