"""A whole cloud in one thread: real control, agents and monitors in a world that can be broken.

`clock` is the time, `actors` are the programs that can be killed, `bus` is the broker, `kernel`,
`netlink`, `netfilter`, `machine`, `guests` and `programs` are what a host consists of, `seams` puts
all that in the place of the real things. `world` holds them together, `scenes` says what users do,
`faults` what goes wrong, and `invariants` what must hold at the end.
"""
