# Sourced by deploy/up, deploy/down and deploy/test: Debian packages and the virtual environment.
# Everything is done only where it is missing, so that a second run costs a few milliseconds.
# An ordinary user has to find the packages, and keeps everything to himself.

set -euo pipefail
checkout=$(dirname -- "$(dirname -- "$(readlink -f -- "$0")")")
system_cache=/var/cache/cumulet
if [ "$(id -u)" = 0 ]; then
    root=yes cache=$system_cache
    umask 022
else
    root= cache=${XDG_CACHE_HOME:-$HOME/.cache}/cumulet
    umask 077
fi
export CUMULET_STARTED=${CUMULET_STARTED:-$(date +%s.%N)}

say() { printf '%4d s  %s\n' "$SECONDS" "$*" >&2; }
die() { say "$*"; exit 1; }

need_root() {
    [ "$root" ] || die "run this as root: it makes network namespaces, users and packages"
}

# Names are the same in Debian 12 and 13 and in Ubuntu 24.04, except where said.
runtime_packages() {
    echo postgresql rabbitmq-server
    echo qemu-system-x86 vde2 stunnel4 socat libslirp0 procps util-linux
    echo openssh-client netcat-openbsd ca-certificates hcloud-cli
    image_packages
    build_packages
    if [ "$root" ]; then # a lab and its hosts
        echo haproxy dnsmasq-base nftables iproute2 wireguard-tools wireguard-go
    fi
}
image_packages() {
    echo qemu-utils mmdebstrap debian-archive-keyring extlinux e2fsprogs fdisk util-linux lz4 cpio
}
build_packages() { # psycopg2 is built from source
    if [ "$root" ] || ! found_environment "$checkout/requirements.txt" >/dev/null; then
        echo python3-venv python3-dev gcc libpq-dev
    fi
}
test_packages() {
    runtime_packages
    echo iputils-ping busybox-static curl
    . /etc/os-release
    case $ID in
        ubuntu) ;; # Chromium is a snap there, which cannot be driven headless as root
        *) echo chromium ;;
    esac
}

missing_packages() { # prints those of "$@" that are not installed
    local name
    for name in "$@"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null || true)" = installed ] ||
            echo "$name"
    done
}

# The packages' own services must not start, now or at the next boot: the cloud runs its own.
# Nothing that was there before is touched. What is changed meanwhile bears our mark, or has its
# original beside it, so that the run after a killed one can put it back.
policy=/usr/sbin/policy-rc.d
policy_mark='# of deploy/up, which installs packages: its next run removes it'
cluster_config=/etc/postgresql-common/createcluster.conf

forbid_services() {
    [ ! -e "$policy" ] || return 0
    printf '#!/bin/sh\n%s\nexit 101\n' "$policy_mark" >"$policy.cumulet"
    chmod 755 "$policy.cumulet"
    mv "$policy.cumulet" "$policy"
}
forbid_cluster() {
    cp -p "$cluster_config" "$cluster_config.cumulet-new"
    mv "$cluster_config.cumulet-new" "$cluster_config.cumulet"
    sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' "$cluster_config"
}
is_changed() {
    grep -qsxF "$policy_mark" "$policy" || [ -e "$cluster_config.cumulet" ]
}
put_back() {
    if grep -qsxF "$policy_mark" "$policy"; then rm -f "$policy"; fi
    if [ -e "$cluster_config.cumulet" ]; then mv "$cluster_config.cumulet" "$cluster_config"; fi
}

install_packages() (
    missing=$(missing_packages "$@")
    [ "$missing" ] || is_changed || exit 0
    if [ ! "$root" ]; then
        [ "$missing" ] || exit 0
        die "packages are missing, root has to say: apt-get install --no-install-recommends -y" $missing
    fi
    # Until its end one run has the packages to itself, and what a killed one began is at its end.
    mkdir -p "$cache"
    exec 8>"$cache/packages.lock"
    flock -n 8 || { say "waiting for another run that installs packages"; flock 8; }
    log=$(mktemp)
    trap 'put_back; rm -f "$log"' EXIT
    export DEBIAN_FRONTEND=noninteractive
    if is_changed; then # what was unpacked is configured while services are still forbidden
        dpkg --configure -a --force-confdef --force-confold </dev/null >"$log" 2>&1 || true
    fi
    put_back
    missing=$(missing_packages "$@")
    [ "$missing" ] || exit 0
    say "installing Debian packages:" $missing
    forbid_services
    get() { apt-get -qq -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1 || { cat "$log" >&2; die "apt-get $1 failed"; }; }
    get update
    if [ -n "$(missing_packages postgresql)" ]; then
        get install --no-install-recommends -y postgresql-common
        forbid_cluster
    fi
    get install --no-install-recommends -y $missing
    if [ -d /run/systemd/system ]; then
        for name in $missing; do
            case $name in
                postgresql) systemctl -q disable postgresql.service || true ;;
                rabbitmq-server) systemctl -q disable rabbitmq-server.service epmd.socket || true ;;
                haproxy) systemctl -q disable haproxy.service || true ;;
                stunnel4) systemctl -q disable stunnel.target || true ;;
            esac
        done
    fi
    say "packages installed"
)

base=/usr/bin/python3
environment_name() {
    local key
    key=$({ "$base" -VV; uname -m; cat "$checkout/requirements.txt" "$1"; } | sha256sum)
    echo "venv-${key:0:12}"
}
found_environment() { # prints the complete environment for $1, the user's own or root's
    local name place
    name=$(environment_name "$1")
    for place in "$cache" "$system_cache"; do
        [ ! -e "$place/$name/complete" ] || { echo "$place/$name"; return 0; }
    done
    return 1
}

# Sets `python` to the interpreter of a virtual environment that holds exactly what $1 pins.
# Root's is shared by all checkouts and readable by every user, so services can run from it.
virtual_environment() {
    local requirements=$1 venv
    if venv=$(found_environment "$requirements"); then
        python=$venv/bin/python
        return 0
    fi
    venv=$cache/$(environment_name "$requirements")
    python=$venv/bin/python
    mkdir -p "$cache"
    exec 9>"$cache/venv.lock"
    flock -n 9 || { say "waiting for another run that makes the virtual environment"; flock 9; }
    if [ ! -e "$venv/complete" ]; then
        say "making the virtual environment $venv (about a minute)"
        rm -rf "$venv"
        "$base" -m venv "$venv"
        "$python" -m pip install --quiet --no-input --disable-pip-version-check -r "$requirements" >&2
        touch "$venv/complete"
        say "virtual environment made"
    fi
    exec 9>&-
}

deploy() { # runs the Python behind the command
    cd "$checkout"
    exec env -u DJANGO_SETTINGS_MODULE PYTHONPATH="$checkout" "$python" -m deploy "$@"
}
