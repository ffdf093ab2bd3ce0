"""The inventory was restored from a backup: it is older than what hosts have.

What runs is the truth then, and nothing of it may be lost to an inventory that forgot it. So
`apart` sets the restored rows apart: no host is told anything of before, and nothing that looks
free is lent, until the host has said what it holds (`cloud.models.Host.unverified_since`). `verify`
hears that, once for each host, and goes through what can be:

- The host has the server as the inventory says: it is the host's again, with the power state that
  its document asks for, because that wish is newer than the backup.
- The host has it with other addresses (moved after the backup): it goes on as it is, nobody else
  gets its addresses, and it is told nothing until a user asks for something. `HeldBack.DIFFERS`.
- The host has nothing of it: it was deleted after the backup, as a tombstone may say, or its disk
  is lost. It is never made anew with an empty disk; to delete it is all that can be done.
  `HeldBack.GONE`. The same holds for one whose creation had not ended when the backup was made.
- The host has a server that the inventory does not know, made after the backup: it runs on.
  `Holding` keeps what is its own from everybody else, the list of drift shows it, and only an
  operator ends it.
- A server that was being deleted at the backup still is: its user had said so before.
- A private network is taken from a host only if no server that it holds is in it.

Hosts refuse generations lower than those they know, so all that are restored are set to a number
that no count reaches: the clock in milliseconds. For the same reason numbers of rows go on far
above those that were restored: a new server never gets the number of one that a host has.

What a backup cannot know: a host that joined after it is a stranger, whose reports are dropped
until `host_add --again` takes it back, and what its servers hold is not known before that; tokens
and administrators that were removed after it are there again, and hosts that were cut off are cut
off because the broker knows their users no more (`manage.py restore` looks).
"""
