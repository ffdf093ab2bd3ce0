# The lines that json.awk makes of a network-config (version 2) → the steps to take, in order.
# One step a line, absent values as "-"; DEVICE is the MAC address, else the name:
#   link DEVICE NAME MTU
#   dhcp DEVICE
#   address DEVICE ADDRESS/LENGTH
#   route DEVICE DESTINATION GATEWAY onlink METRIC
#   nameserver ADDRESS

BEGIN {
    FS = "\t"
    prefix = "^/ethernets/"
}

$1 ~ prefix {
    split($1, part, "/")
    id = part[3]
    if (!(id in seen)) {
        seen[id] = 1
        order[count++] = id
    }
    key = substr($1, length("/ethernets/" id "/") + 1)
    set[id, key] = $2
    if (key ~ /^addresses\/[0-9]+$/) addresses[id] = part[5] + 1
    if (key ~ /^routes\//) routes[id] = part[5] + 1
    if (key ~ /^nameservers\/addresses\//) resolvers[resolver_count++] = $2
}

END {
    for (i = 0; i < count; i++) interface(order[i])
    for (i = 0; i < resolver_count; i++) print "nameserver", resolvers[i]
}

function given(id, key) {
    return (id, key) in set ? set[id, key] : "-"
}

function interface(id, device, n, at) {
    device = given(id, "match/macaddress")
    if (device == "-") device = given(id, "match/name")
    device = device == "-" ? id : tolower(device)
    print "link", device, given(id, "set-name"), given(id, "mtu")
    if (given(id, "dhcp4") == "true") print "dhcp", device
    for (n = 0; n < addresses[id]; n++) print "address", device, given(id, "addresses/" n)
    for (n = 0; n < routes[id]; n++) {
        at = "routes/" n "/"
        print "route", device, given(id, at "to"), given(id, at "via"), \
            given(id, at "on-link") == "true" ? "onlink" : "-", given(id, at "metric")
    }
}
