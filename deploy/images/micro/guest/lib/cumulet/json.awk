# A JSON document, one line for every scalar in it: its path, a tab, its value.
#   {"a": {"b": ["x", 1]}}  →  /a/b/0<TAB>x and /a/b/1<TAB>1
# A value stays on one line: control characters in strings become spaces. What is not JSON ends
# with exit code 1 and a message; lines before the fault have been printed by then.

{ text = text $0 "\n" }

END {
    value("")
    blank()
    if (text != "") fail("text after the document")
}

function fail(reason) {
    print "json.awk: " reason > "/dev/stderr"
    failed = 1
    exit 1
}

function blank() { sub(/^[ \t\r\n]+/, "", text) }

function take(size, taken) {
    taken = substr(text, 1, size)
    text = substr(text, size + 1)
    return taken
}

function next_is(character) {
    blank()
    if (substr(text, 1, 1) != character) return 0
    take(1)
    return 1
}

function value(path) {
    blank()
    if (next_is("{")) members(path)
    else if (next_is("[")) elements(path)
    else if (text ~ /^"/) print path "\t" string()
    else if (match(text, /^(true|false|null|-?[0-9][0-9.eE+-]*)/)) print path "\t" take(RLENGTH)
    else fail("no value at " path)
}

function members(path, key) {
    if (next_is("}")) return
    do {
        blank()
        key = string()
        if (!next_is(":")) fail("no colon after " key)
        value(path "/" key)
    } while (next_is(","))
    if (!next_is("}")) fail("no closing brace at " path)
}

function elements(path, i) {
    if (next_is("]")) return
    i = 0
    do value(path "/" i++)
    while (next_is(","))
    if (!next_is("]")) fail("no closing bracket at " path)
}

function string(raw, out, at, escape) {
    if (!match(text, /^"([^"\\]|\\.)*"/)) fail("no string")
    raw = take(RLENGTH)
    raw = substr(raw, 2, length(raw) - 2)
    out = ""
    while ((at = index(raw, "\\")) > 0) {
        out = out substr(raw, 1, at - 1)
        escape = substr(raw, at + 1, 1)
        if (escape == "u") {
            out = out character(substr(raw, at + 2, 4))
            raw = substr(raw, at + 6)
        } else {
            out = out (escape ~ /[nrtbf]/ ? " " : escape)
            raw = substr(raw, at + 2)
        }
    }
    out = out raw
    gsub(/[\t\r\n]/, " ", out)
    return out
}

# ASCII only: nothing that this guest reads has a meaning beyond it.
function character(hex, code) {
    code = index("0123456789abcdef", tolower(substr(hex, 3, 1))) * 16 - 16
    code += index("0123456789abcdef", tolower(substr(hex, 4, 1))) - 1
    if (substr(hex, 1, 2) != "00" || code < 32 || code > 126) return code < 32 ? " " : "?"
    return sprintf("%c", code)
}
