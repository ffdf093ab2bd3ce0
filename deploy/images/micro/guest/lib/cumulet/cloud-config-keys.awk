# The entries of ssh_authorized_keys in a #cloud-config: a YAML block list, one key a line.

/^[^ \t-]/ { inside = /^ssh_authorized_keys:/; next }
inside && /^[ \t]*- / {
    sub(/^[ \t]*- +/, "")
    gsub(/^["']|["' \t\r]+$/, "")
    print
}
